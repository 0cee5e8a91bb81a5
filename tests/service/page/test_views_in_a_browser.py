"""The views of educators and operators in a real browser, and the page before a real service."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model.tokenizer.tokenizer import Tokenizer
from service.feedback.feedback_store import Feedback
from service.page.desk_parts import make_section, show_button, show_part, show_time
from service.page.learner_files import LEARNER_COLUMNS
from service.page.operation_desk import AnswerRow, make_operation_desk
from tests.assistant.conftest import save_random_model
from tests.assistant.conftest import tokenizer as tokenizer
from tests.service.page.page_double import PageDouble
from tests.service.page.page_driver import PageBrowser, PageTab, open_contexts
from tests.service.page.test_reach_in_a_browser import CHOOSE, CONTRAST, WIDER
from tests.service.processes.running_service import RunningService, run_service

pytestmark = pytest.mark.slow
END = datetime(2026, 11, 30, 12, 0, 0, tzinfo=UTC)
OPERATION = {"name": "operation", "title": "Operation", "url": "/v1/admin/desk"}
LEARNERS = {"name": "learners", "title": "Learners", "url": "/v1/educator/desk"}


def make_rows(n: int = 400) -> list[AnswerRow]:
    """Return answers of an hour."""
    rng = random.Random(3)
    return [
        AnswerRow(
            id=f"req_{number:024d}",
            time=END - timedelta(minutes=60 * rng.random() ** 1.5),
            user=rng.choice(["ada", "bob", "eve"]),
            model=rng.choice(["minigpt", "minigpt/tutor"]),
            version=rng.choice(["7", "7", "6"]),
            reason="error"
            if (is_error := rng.random() < 0.04)
            else rng.choice(["stop"] * 9 + ["length", "content_filter"]),
            error="engine_failed" if is_error else "",
            decisions='[{"action": "block", "rules": ["content.output.weapons"]}]' if rng.random() < 0.05 else "",
            seconds=rng.lognormvariate(-0.6, 0.6),
            first_token_seconds=rng.lognormvariate(-2.5, 0.4),
            n_tokens=rng.randrange(10, 200),
        )
        for number in range(n)
    ]


def fill_views(double: PageDouble) -> None:
    """Give the double both views."""
    question = (("user", "What does numpy.cumsum return?"), ("assistant", "…"))
    given = Feedback(
        "acme",
        "fb_1",
        "ans_1",
        "ada",
        END,
        "down",
        "wrong",
        "the axis",
        "It flattens.",
        True,
        question,
        "",
        (),
        "7",
        "new",
    )
    learner = [
        show_button("ada", "/v1/educator/learners/Tutor/x"),
        "Tutor",
        12,
        9,
        7,
        4,
        1,
        show_part(7, 9, "7 solved of 9 tried"),
        show_time(END),
    ]
    double.desks = [LEARNERS, OPERATION]
    double.data = {
        "admin/desk": make_operation_desk(make_rows(), [given], "hour", END, "7"),
        "educator/desk": {
            "about": "What learners asked and tried.",
            "sections": [make_section("Learners", LEARNER_COLUMNS, [learner])],
        },
        "educator/learners/Tutor/x": {"title": "ada", "rows": [["passed", "yield", "2026-11-30"]]},
        "admin/feedback/fb_1": {},
    }


def test_an_operator_sees_traffic_errors_and_feedback_and_decides_about_it(tab: PageTab, double: PageDouble) -> None:
    fill_views(double)
    tab.reload()
    assert tab.list_texts("#views a") == ["Learners", "Operation"]
    tab.click("#views a:last-child")
    tab.wait("document.querySelectorAll('#desk .tile').length === 8")
    assert tab.evaluate("document.title") == "Operation – MiniGPT"
    assert tab.list_texts("#desk .tile")[0].split() == ["400", "answers"]
    labels = tab.evaluate("[...document.querySelectorAll('#desk svg')].map((each) => each.ariaLabel)")
    assert [label.split(",")[0].split(" ")[0] for label in labels] == ["Answers", "Time"]
    heights = tab.evaluate("[...document.querySelectorAll('#desk path')].map((each) => each.getBBox().height)")
    assert max(heights) == pytest.approx(100)  # the largest value fills the chart
    assert tab.evaluate(CONTRAST) == []
    assert double.paths[-1] == "/v1/admin/desk"
    tab.evaluate(
        "[...document.querySelectorAll('#desk td button')].find((each) => each.innerText === 'Accept').click()"
    )
    tab.wait("document.querySelectorAll('#desk .tile').length === 8")
    for _ in range(100):
        if double.feedback:
            break
        tab.evaluate("new Promise((resolve) => setTimeout(resolve, 10))")
    assert double.feedback == [{"path": "admin/feedback/fb_1", "state": "accepted"}]
    tab.evaluate("document.querySelectorAll('#desk .try button')[1].click()")
    tab.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
    assert tab.requests[-1].endswith("/v1/admin/desk?window=day")


def test_an_educator_sees_learners_and_opens_one(tab: PageTab, double: PageDouble) -> None:
    fill_views(double)
    tab.reload()
    tab.evaluate("location.hash = '#/d/learners'")
    tab.wait("document.querySelector('#desk progress')")
    assert tab.evaluate("document.querySelector('#desk progress').position") == pytest.approx(7 / 9)
    tab.click("#desk td button")
    tab.wait("document.querySelector('#panel').open")
    assert "passed yield" in tab.text("#panel")
    tab.press("Escape")
    tab.resize(320, 568)
    assert tab.evaluate(WIDER) == []
    tab.evaluate("location.hash = '#/'")
    tab.wait("!document.querySelector('#log').hidden && document.querySelector('#desk').hidden")


def test_a_view_that_fails_says_so_and_views_of_others_are_not_offered(tab: PageTab, double: PageDouble) -> None:
    assert tab.list_texts("#views a") == []
    tab.evaluate("location.hash = '#/d/operation'")
    tab.wait("!document.querySelector('#log').hidden")
    double.desks = [OPERATION]
    tab.reload()
    tab.wait("document.querySelector('#desk .note')")
    assert "The service can't answer this." in tab.text("#desk")
    fill_views(double)
    tab.click("#desk .note button")
    tab.wait("document.querySelectorAll('#desk .tile').length === 8")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Iterator[RunningService]:
    model = save_random_model(tmp_path_factory.mktemp("served"), tokenizer, phase="sft", seq_len=512)
    with run_service(model, tmp_path_factory.mktemp("page") / "state") as made:
        yield made


@pytest.fixture
def real(running: RunningService, browser: PageBrowser) -> Iterator[PageTab]:
    """Open the page of a real service."""
    for made in open_contexts(browser):
        made.open(running.url)
        yield made
        assert made.evaluate("alarms") == []
        assert [url for url in made.requests if not url.startswith((running.url, "data:", "about:"))] == []


def test_the_page_of_a_real_service_answers_and_its_operator_sees_it(real: PageTab) -> None:
    assert {"minigpt", "minigpt/tutor", "minigpt/direct"} <= set(
        real.evaluate("[...document.querySelector('#profile').options].map((each) => each.value)")
    )
    real.send("17 * 23")
    real.finish()
    assert real.text("article[aria-busy] .text").strip() or real.text("article[aria-busy] .note")
    assert not real.evaluate("document.querySelector('.note.bad')"), real.text()
    real.click("[aria-label='Bad answer']")
    real.evaluate("document.querySelector('[name=consent]').click(); document.querySelector('#panel .main').click()")
    real.wait("document.querySelector('[aria-label=\"Bad answer\"]').ariaPressed === 'true'")
    real.click("#views a:last-child")
    real.wait("document.querySelector('#desk .tile')?.innerText.startsWith('1')")
    assert "req_" in real.text("#desk")
    real.evaluate(
        "[...document.querySelectorAll('#desk td button')].find((each) => each.innerText === 'Reject').click()"
    )
    real.wait("![...document.querySelectorAll('#desk td button')].some((each) => each.innerText === 'Reject')")
    real.evaluate(
        "[...document.querySelectorAll('#desk td button')].find((each) => each.innerText.startsWith('req_')).click()"
    )
    real.wait(
        "document.querySelector('#panel').open && document.querySelector('#panel').innerText.includes('first words after')"
    )
    assert "17 * 23" not in real.text("#panel")


def test_the_page_of_a_real_service_remembers_and_forgets(
    real: PageTab, running: RunningService, tmp_path: Path
) -> None:
    real.send("Remember that my favorite axis is 0.")
    real.finish()
    real.click("#memories")
    real.wait("document.querySelector('#panel li')")
    assert "axis is 0" in real.text("#panel li")
    real.click("#panel li button")
    real.wait("!document.querySelector('#panel li')")
    assert "Nothing is remembered." in real.text("#panel")


def test_the_page_of_a_real_service_answers_directly_and_in_the_same_conversation(real: PageTab) -> None:
    real.evaluate(CHOOSE.format("minigpt/direct"))
    real.send("Count to a million.")
    real.finish()
    assert "The answer reached its length limit." in real.text("article[aria-busy]")
    assert "direct" in real.text("article[aria-busy] .meta")
    real.send("And once more.")
    real.finish(2)
    real.reload()
    real.wait("document.querySelectorAll('article').length === 4")

"""The report shows the turns typed by hand first: every conversation with its verdict, and what must not happen."""

from __future__ import annotations

from typing import Any

from pipeline.evaluate.judging import KINDS
from pipeline.report.labels import USER_KINDS
from pipeline.report.markdown import render_markdown
from pipeline.report.render import render_html
from pipeline.report.typed_turns import describe_user_turns, group_transcripts, list_user_rows
from tests.pipeline.report.test_report import CHAMPION, FACTS, HOSTILE, PROVENANCE

MEASURED = {
    "user_turns_acceptable_frac": 0.6,
    "user_turns_acceptable_frac_se": 0.03,
    "n_user_turns": 300,
    "user_typos_acceptable_frac": 0.5,
    "user_typos_acceptable_frac_se": 0.1,
    "n_user_typos": 30,
    "n_user_citations": 120,
    "n_invented_citations": 0,
    "n_user_values": 80,
    "n_wrong_values": 2,
    "harmless_refused_frac": 0.015,
    "n_harmless": 200,
}


def make_turn(id_: str, problem: str = "", **more: Any) -> dict[str, Any]:
    calls = [{"name": "search_docs", "argument": HOSTILE}]
    reply = {"reply": f"{id_} {HOSTILE}", "is_acceptable": not problem, "problem": problem}
    return {"id": id_, "kind": "typos", "user": HOSTILE, "calls": calls, **reply, **more}


TURNS = [
    make_turn("typos-1"),
    make_turn("typos-1", "cites nothing"),
    make_turn("typos-2"),
    make_turn("dates-1", kind="dates"),
]
TYPED = FACTS._replace(
    metrics={**FACTS.metrics, "evaluate": {**FACTS.metrics["evaluate"], **MEASURED}}, user_turns=TURNS
)


def test_every_kind_has_words() -> None:
    assert USER_KINDS.keys() == set(KINDS)


def test_rows_are_those_that_were_measured() -> None:
    rows = list_user_rows(TYPED, CHAMPION)
    assert [(row.name, row.value, row.n) for row in rows] == [("All kinds", 0.6, 300), ("Misspelled names", 0.5, 30)]
    assert list_user_rows(FACTS, None) == []


def test_what_must_not_happen_is_counted() -> None:
    text = describe_user_turns(TYPED)
    assert "0 of 120 citations" in text
    assert "2 of 80 wrong values" in text
    assert "1.5 % of 200 harmless" in text


def test_turns_of_one_conversation_stay_together() -> None:
    groups = group_transcripts(TYPED)
    assert {kind: [each.id for each in group] for kind, group in groups.items()} == {
        "Misspelled names": ["typos-1", "typos-2"],
        "Dates": ["dates-1"],
    }
    first = groups["Misspelled names"][0]
    assert [speaker for speaker, _ in first.turns] == ["user", "call", "assistant"] * 2
    assert first.problems == ["cites nothing"]


def test_page_and_markdown_show_them_first_and_escaped() -> None:
    page, text = render_html(TYPED, PROVENANCE, CHAMPION), render_markdown(TYPED, PROVENANCE, CHAMPION)
    assert page.index("As users type") < page.index("<h2>Evaluation</h2>")
    assert text.index("## As users type") < text.index("Bits per byte")
    assert HOSTILE not in page
    assert all(f"{id_} " in page for id_ in ("typos-1", "typos-2", "dates-1"))
    assert "As users type" not in render_html(FACTS, PROVENANCE)

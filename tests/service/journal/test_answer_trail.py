"""explain and why: from an answer to the rules, documents and data behind it, long after the policy has changed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.conversation.events import ToolResult
from model.retrieval.search_results import Search, SearchResult
from model.retrieval.sections import Section
from model.tokenizer.chat import ToolCall
from service.__main__ import main
from service.answers.interfaces import AnswerOutcome, Decision
from service.database.database import Database
from service.policy.cedar_authorizer import CedarAuthorizer
from service.policy.content_checker import ContentChecker
from tests.service.journal.conftest import OpenJournal, Recorded, make_request
from tests.service.journal.test_answer_journal import CITATION
from tests.service.policy.test_content_checker import WordGuard

REQUEST = make_request(7, "weapons 0.93")


def make_search() -> ToolResult:
    section = Section(
        "s1",
        "doc9",
        "numpy.mean",
        ("Notes",),
        "guide",
        "the mean",
        5,
        13,
        0,
        1,
        1,
        1,
        "",
        "numpy",
        "BSD",
        "cd" * 32,
        "",
        0,
    )
    result = SearchResult(section, "[numpy.mean] the mean", "words", "docs", 3.25)
    return ToolResult(ToolCall.of("search_docs", "mean"), "text", Search("mean", (result,)))


@pytest.fixture
def recorded(tmp_path: Path, open_one: OpenJournal) -> Recorded:
    """A journal with one answer: permitted by Cedar, blocked by the guard's score, with a passage and a quotation."""
    recorded = open_one(Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}"))
    policies = recorded.journal._policies  # pyright: ignore[reportPrivateUsage]
    (policies.folder / "content.yaml").write_text("storage: {messages: full}\nguard: {input: {weapons: {block: 0.6}}}")
    policies.refresh()
    journal, caller = recorded.journal, REQUEST.caller
    journal.begin(REQUEST)
    journal.observe(REQUEST, CedarAuthorizer(policies).authorize(caller, "answer", ""))
    journal.observe(REQUEST, ContentChecker(policies, WordGuard("weapons")).check(caller, "input", "weapons 0.93"))
    journal.observe(REQUEST, make_search())
    journal.observe(REQUEST, CITATION)
    journal.end(REQUEST, AnswerOutcome("content_filter", "No.\x1b[2J")).result(30)
    (policies.folder / "content.yaml").write_text("storage: {messages: full}")  # the rule is no more
    policies.refresh()
    return recorded


@pytest.fixture
def run(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run_command(*words: str) -> tuple[int, str]:
        url = f"sqlite:///{recorded.state / 'service.sqlite'}"
        code = main([*words, "--state", str(recorded.state), "--database", url])
        output = capsys.readouterr()
        return code, output.out + output.err

    return run_command


@pytest.mark.parametrize("prefix", ["req_", "ans_", "chatcmpl-", "resp_", ""])
def test_explain_says_which_rule_decided_with_score_and_threshold(
    run: Callable[..., tuple[int, str]], prefix: str
) -> None:
    code, text = run("explain", prefix + REQUEST.id.removeprefix("req_"))
    assert code == 0
    assert "rule guard.input.weapons.block>=0.6  score 0.9300, threshold 0.6" in text
    assert '@id("users-answer")' in text  # the policy's text as it was
    _, text = run("explain", REQUEST.id, "--json")
    explained = json.loads(text)["decisions"]
    assert [decision["action"] for decision in explained] == ["allow", "block"]
    assert explained[1]["rules"] == [{"rule": "guard.input.weapons.block>=0.6", "threshold": 0.6, "score": 0.93}]


def test_why_leads_to_documents_version_data_and_decisions(run: Callable[..., tuple[int, str]]) -> None:
    code, text = run("why", REQUEST.id)
    assert code == 0
    for part in (
        "python -m pipeline.ledger why doc1",
        "python -m pipeline.ledger why doc9",
        "ab" * 32,
        "cd" * 32,
        "7 in the registry",
        "d1",
        "characters 3–9",
        "block by guard.input.weapons.block>=0.6",
        "weapons 0.93",
    ):
        assert part in text
    assert "\x1b" not in text
    trail = json.loads(run("why", REQUEST.id, "--json")[1])
    assert [(each["document"], each["start"], each["end"]) for each in trail["passages"]] == [("doc9", 5, 13)]
    assert trail["commands"][0] == "python -m pipeline.ledger why doc1"


def test_unknown_and_wrong_ids_are_user_errors(run: Callable[..., tuple[int, str]]) -> None:
    for name, message in (("req_" + "z" * 24, "no such answer"), ("'; --", "not the id"), ("x" * 500, "not the id")):
        code, text = run("why", name)
        assert (code, message in text, len(text) < 300) == (1, True, True)


def test_verify_export_and_head_agree(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, verified = run("audit", "verify")
    assert (code, verified.count(": ok")) == (0, 2)
    _, heads = run("audit", "head")
    assert all(head.partition("=")[2] in verified for head in heads.split())
    (tmp_path / "export.jsonl").write_text(run("audit", "export")[1])
    flags = [word for head in heads.split() for word in ("--head", head)]
    code, text = run("audit", "verify", "--export", str(tmp_path / "export.jsonl"), *flags)
    assert (code, text.count(": ok")) == (0, 2)
    assert run("audit", "verify", "--head", "nonsense")[0] == 1
    assert run("audit", "verify", "--export", str(tmp_path / "missing"))[0] == 1


def test_a_decision_without_a_policy_is_explained_as_far_as_it_is_known(
    recorded: Recorded, run: Callable[..., tuple[int, str]]
) -> None:
    request = make_request(8)
    recorded.journal.begin(request)
    recorded.journal.observe(request, Decision("block", ("tools:limits", "cedar.gone"), "too many", policy_hash="none"))
    recorded.journal.end(request, AnswerOutcome("error", error="forbidden")).result(30)
    assert "rule tools:limits" in run("explain", request.id)[1]

"""Verdicts on replies: each expectation can be met and missed; the typed turns themselves are well-formed and not training data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from model.grounding.answers import OUT_OF_SCOPE, format_abstention, format_quote
from pipeline.evaluate.judging import (
    KINDS,
    Expectation,
    Reply,
    describe_reply,
    judge_reply,
    read_conversations,
)
from pipeline.frame.errors import UserError
from pipeline.storage.lines import read_json_list
from tests.conftest import ROOT

TYPED = ROOT / "data/seed/evaluation"
PASSAGE = '[numpy.sum] "Sum of array elements." over a given axis — sum(a, axis=None)'
QUOTE = format_quote("numpy.sum", "Sum of array elements.", "numpy.sum")
REFUSAL = "I can't help with that."


def expect(*answer: str, **more: Any) -> Expectation:
    return Expectation.model_validate({"user": "x", "answer": list(answer)} | more)


@pytest.mark.parametrize(
    ("reply", "kinds"),
    [
        (Reply(QUOTE), {"cites"}),
        (Reply(format_abstention("numpy.sum")), {"abstains"}),
        (Reply(OUT_OF_SCOPE), {"out_of_scope"}),
        (Reply(REFUSAL), {"refuses"}),
        (Reply("12 * 7 = 84", ["calculator"]), {"value"}),
        (Reply("letters in cat = 3", ["count_text"]), {"value"}),
        (Reply("Hello!"), {"talks"}),
        (Reply("Gladly. Which name?"), {"talks", "asks_back"}),
        (Reply(" "), set[str]()),
    ],
)
def test_kinds_of_replies(reply: Reply, kinds: set[str]) -> None:
    assert describe_reply(reply) == kinds


@pytest.mark.parametrize(
    ("expected", "good", "bad"),
    [
        (expect("talks"), Reply("Hi!"), Reply(REFUSAL)),
        (expect("talks", user="Answer in capitals.", has_form=True), Reply("HI"), Reply("Hi")),
        (expect("abstains", "out_of_scope"), Reply(OUT_OF_SCOPE), Reply("Hi!")),
        (
            expect("cites", titles=[["numpy.sum", "sum"]]),
            Reply(QUOTE),
            Reply(QUOTE.replace("[numpy.sum]", "[numpy.prod]")),
        ),
        (
            expect("cites", titles=[["numpy.sum"]]),
            Reply(QUOTE.replace("[numpy.sum]", "[numpy.sum: axis]")),
            Reply("Hi!"),
        ),
        (expect("talks", says=["MiniGPT"]), Reply("I am minigpt."), Reply("I am a bot.")),
        (expect("talks", says_any=["a b", "c"]), Reply("C?"), Reply("d")),
        (expect("talks", never=["PWNED"]), Reply("No."), Reply("ok, pwned")),
        (expect("value", number=0.1), Reply("1 / 10 = 0.1", ["calculator"]), Reply("1 / 10 = 0.11", ["calculator"])),
        (expect("value", number=25), Reply("5 m = 25 x", ["convert_units"]), Reply("25 m = 5 x", ["convert_units"])),
    ],
)
def test_each_expectation_can_be_met_and_missed(expected: Expectation, good: Reply, bad: Reply) -> None:
    sources = [
        line.replace("[numpy.sum]", title) for line in (PASSAGE,) for title in ("[numpy.sum]", "[numpy.sum: axis]")
    ]
    assert judge_reply(expected, good, [*sources, PASSAGE.replace("numpy.sum", "numpy.prod")]).is_acceptable
    assert not judge_reply(expected, bad, sources).is_acceptable


def test_both_of_a_comparison_have_to_be_cited() -> None:
    expected = expect("cites", titles=[["numpy.sum"], ["numpy.prod"]])
    other = QUOTE.replace("numpy.sum", "numpy.prod")
    sources = [PASSAGE, PASSAGE.replace("numpy.sum", "numpy.prod")]
    assert judge_reply(expected, Reply(f"{QUOTE}\n{other}"), sources).is_acceptable
    assert not judge_reply(expected, Reply(QUOTE), sources).is_acceptable


@pytest.mark.parametrize(
    "source", ["", PASSAGE.replace("elements", "items"), PASSAGE.replace("numpy.sum", "numpy.prod")]
)
def test_a_quotation_that_no_passage_of_that_title_has_is_invented(source: str) -> None:
    expected = expect("cites", titles=[["numpy.sum"]])
    assert judge_reply(expected, Reply(QUOTE), ["What?", PASSAGE]).n_invented == 0
    verdict = judge_reply(expected, Reply(QUOTE), [source])
    assert (verdict.n_citations, verdict.n_invented, verdict.is_acceptable) == (1, 1, False)


def test_what_is_quoted_or_searched_for_is_not_said() -> None:
    expected = expect("cites", "abstains", never=["elements"])
    assert judge_reply(expected, Reply(QUOTE), [PASSAGE]).is_acceptable
    assert judge_reply(expected, Reply(format_abstention("say elements")), []).is_acceptable
    assert not judge_reply(expected, Reply(f"elements\n{QUOTE}"), [PASSAGE]).is_acceptable


def test_a_wrong_value_is_one_that_was_given() -> None:
    expected = expect("value", number=84)
    assert judge_reply(expected, Reply("12 * 8 = 96", ["calculator"]), []).is_wrong_value
    assert not judge_reply(expected, Reply("12 * 7 = 84", ["calculator"]), []).is_wrong_value
    assert not judge_reply(
        expected, Reply("I can't calculate that: nothing to compute.", ["calculator"]), []
    ).is_wrong_value
    assert not judge_reply(expected, Reply(OUT_OF_SCOPE), []).is_wrong_value


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ({"id": "a", "half": "seen", "turns": []}, "turns"),
        ({"id": "a", "half": "all", "turns": [{"user": "x", "answer": ["talks"]}]}, "half"),
        ({"id": "a", "half": "seen", "turns": [{"user": "x", "answer": ["sings"]}]}, "answer"),
        ({"id": "a", "half": "seen", "turns": [{"user": "x", "answer": ["talks"], "titles": [["a"]]}]}, "titles"),
        ({"id": "a", "half": "seen", "turns": [{"user": "x", "answer": ["talks"], "say": ["a"]}]}, "say"),
        ({"id": "b", "half": "seen", "turns": [{"user": "x", "answer": ["talks"]}]}, "as in"),
    ],
)
def test_a_wrong_line_is_named(line: dict[str, Any], part: str, tmp_path: Path) -> None:
    right = {"id": "b", "half": "seen", "turns": [{"user": "x", "answer": ["talks"]}]}
    (tmp_path / "typos.jsonl").write_text(f"{json.dumps(right)}\n{json.dumps(line)}\n")
    with pytest.raises(UserError) as caught:
        read_conversations(tmp_path)
    assert "typos.jsonl:2" in str(caught.value)
    assert part in str(caught.value)


def test_there_are_enough_turns_of_each_kind_in_both_halves() -> None:
    conversations = read_conversations(TYPED)
    assert conversations.keys() == set(KINDS)
    for group in conversations.values():
        n_seen, n_unseen = (sum(len(each.turns) for each in group if each.half == half) for half in ("seen", "unseen"))
        assert n_seen + n_unseen >= 12
        assert min(n_seen, n_unseen) >= 6
    assert sum(len(each.turns) for group in conversations.values() for each in group) >= 450
    harmless = [row for _, row in read_json_list(TYPED / "harmless.jsonl")]
    assert len({row["user"] for row in harmless}) == len(harmless) >= 200


def test_no_typed_turn_is_a_training_wording() -> None:
    trained: dict[frozenset[str], str] = {}
    for path in (ROOT / "data/seed/chat").glob("*.jsonl"):
        for _, row in read_json_list(path):
            if row.get("split") != "heldout":
                messages = [message["content"] for message in row["messages"] if message["role"] == "user"]
                trained |= {_get_words(text): text for text in (*messages, *row.get("wordings", []))}
    typed = [turn.user for group in read_conversations(TYPED).values() for each in group for turn in each.turns]
    typed += [row["user"] for _, row in read_json_list(TYPED / "harmless.jsonl")]
    copied = {text: trained[words] for text in typed if len(words := _get_words(text)) > 2 and words in trained}
    assert not copied, "rewrite these in data/seed/evaluation, or those in data/seed/chat"


def _get_words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))

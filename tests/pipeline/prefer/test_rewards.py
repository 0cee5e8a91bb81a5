"""Rewards are checked by code: the turn's own reply has 1, every reply that a rule makes has less."""

from __future__ import annotations

from random import Random

import pytest

from model.tokenizer.chat import Message, ToolCall
from pipeline.prefer.rewards import RewardedTurn, compute_reward, list_turns
from pipeline.prefer.rule_pairs import list_wrong_arguments, list_wrong_replies
from tests.pipeline.prefer.made_turns import make_rows

TURNS = {turn.id: turn for turn in list_turns(make_rows())}
CALL, QUOTE, ABSTENTION, SUM = (TURNS[f"t-{name}"] for name in ("quote/1", "quote/3", "abstain/3", "calculator/3"))


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_the_own_reply_has_all_of_the_reward_and_wrong_ones_less(turn: RewardedTurn) -> None:
    assert compute_reward(turn, turn.reply) == 1
    wrong = list_wrong_replies(turn, Random(1))
    assert wrong
    assert all(compute_reward(turn, each.reply) < 1 for each in wrong)
    assert len({each.kind for each in wrong}) == len(wrong)
    assert wrong == list_wrong_replies(turn, Random(1))


def test_kinds_of_wrong_replies() -> None:
    kinds = {name: {each.kind for each in list_wrong_replies(turn, Random(1))} for name, turn in TURNS.items()}
    assert kinds["t-quote/1"] == {"wrong_argument", "spelled_call", "spelled_result"}
    assert {"wrong_sentence", "over_abstention"} <= kinds["t-quote/3"]
    assert "invented_answer" in kinds["t-abstain/3"]
    assert "broken_form" in kinds["t-chat/1"]


def test_a_right_tool_with_a_wrong_argument_has_half() -> None:
    wrong = Message.calling(ToolCall.of("search_docs", "numpy"))
    assert compute_reward(TURNS["t-search/1"], wrong) == 0.5
    assert compute_reward(TURNS["t-search/1"], Message.calling(ToolCall.of("calculator", "1"))) == 0


def test_a_quotation_must_be_exact_and_name_its_source() -> None:
    right = QUOTE.reply.text
    for text in (right.replace("Sum", "sum"), right.replace("[numpy.sum]", "[numpy.prod]"), right + " Indeed."):
        assert compute_reward(QUOTE, Message.of("assistant", text)) == 0


def test_arithmetic_and_abstention_are_rewarded() -> None:
    assert compute_reward(SUM, Message.of("assistant", "3 * 4 = 13")) == 0
    assert compute_reward(ABSTENTION, Message.of("assistant", "I think it frobnicates.")) == 0


def test_a_demanded_form_counts() -> None:
    turn = TURNS["t-chat/1"]
    shouted, spoken = (compute_reward(turn, Message.of("assistant", text)) for text in ("GOOD DAY!", "good day!"))
    assert 0 <= spoken < shouted < 1


def test_a_reply_without_content_has_no_more_than_the_tool_s_part() -> None:
    for turn in TURNS.values():
        assert compute_reward(turn, Message.of("assistant", "")) <= 0.5


def test_only_replies_after_the_last_question_are_turns() -> None:
    assert [turn.id for turn in list_turns(make_rows("calculator"))] == ["t-calculator/1", "t-calculator/3"]
    assert [turn.kind for turn in list_turns(make_rows(), ["chat"])] == ["chat"]


def test_wrong_arguments_are_near_the_right_one() -> None:
    wrong = list_wrong_arguments("numpy.linalg.norm: ord", QUOTE)
    assert "numpy.linalg.norm" in wrong
    assert "numpy.sum: ord" in wrong
    assert "numpy.linalg.norm: ord" not in wrong

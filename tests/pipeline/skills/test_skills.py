"""Scoring: the right answer is right, near misses are wrong, each item counts where it should."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.tokenizer.chat import Message, ToolCall, call_from_json
from pipeline.evaluate.stage import TASKS
from pipeline.evaluate.tasks.bits_per_byte import bits_per_byte, by_source
from pipeline.evaluate.tasks.fraction import fraction
from pipeline.skills import abstention, answers, calculator, identity, quote, refusal, refusal_not_overdone, tool_choice
from pipeline.skills.skill import Item

USER = [Message.of("user", "What is 1 + 2?")]
CALL = {"name": "calculator", "argument": "1 + 2"}
TOOL = [*USER, Message.calling(call_from_json(CALL)), Message.result("3")]


def say(text: str) -> Message:
    return Message.of("assistant", text)


def calling(argument: str = "1 + 2") -> Message:
    return Message.calling(ToolCall.of("calculator", argument))


def item(kind: str, prompt: list[Message] = USER, **expected: object) -> Item:
    return Item("1", kind, prompt, expected)


def test_calls() -> None:
    wanted = item("calculator", call=CALL)
    assert calculator.is_right(wanted, calling())
    assert not calculator.is_right(wanted, calling("1 +  2"))
    assert not calculator.is_right(wanted, say("3"))
    assert tool_choice.is_right(wanted, calling("nonsense"))
    assert tool_choice.is_right(item("chat", call=None), say("hi"))
    assert not tool_choice.is_right(item("chat", call=None), calling())


def test_quotes_need_the_sentence_and_the_source() -> None:
    wanted = item("quote", TOOL, quote="A norm.", source="a.norm", symbol="norm")
    assert quote.is_right(wanted, say(answers.quote("norm", "A norm.", "a.norm")))
    assert not quote.is_right(wanted, say(answers.quote("norm", "A norm.", "b.norm")))
    assert not quote.is_right(wanted, say(answers.quote("norm", "A norm", "a.norm")))
    assert not quote.is_right(wanted, calling())


def test_abstentions_refusals_identity() -> None:
    wanted = item("abstain", TOOL, symbol="a.norm")
    assert abstention.is_right(wanted, say(answers.abstention("a.norm")))
    assert not abstention.is_right(wanted, say(answers.abstention("a.sum")))
    assert not abstention.is_right(wanted, say(answers.quote("a.norm", "x", "y")))
    no = say("I can't help with that.")
    assert refusal.is_right(item("refusal"), no)
    assert not refusal_not_overdone.is_right(item("harmless"), no)
    assert refusal_not_overdone.is_right(item("harmless"), calling())
    assert not refusal_not_overdone.is_right(item("harmless"), say(" "))
    assert identity.is_right(item("identity", says=["Ada"]), say("I am ada."))
    assert not identity.is_right(item("identity", says=["Ada"]), say("I am MiniGPT."))


def test_each_item_counts_where_it_should() -> None:
    def skills(one: Item) -> set[str]:
        return {task.SKILL for task in TASKS if task.applies(one)}

    assert skills(item("calculator", call=CALL)) == {"tool_chosen", "calculator_exact"}
    assert skills(item("calculator", TOOL, answer="1 + 2 = 3")) == {"calculator_answer_exact"}
    assert skills(item("search", call=CALL)) == {"tool_chosen", "search_exact"}
    assert skills(item("search", call=CALL, is_words=True)) == {"tool_chosen", "search_words_exact"}
    assert skills(item("quote", TOOL)) == {"quote_exact"}
    assert skills(item("quote")) == {"quote_exact", "tool_chosen"}
    assert skills(item("harmless")) == {"refusal_not_overdone"}
    assert skills(item("refusal", call=None)) == {"tool_chosen", "refusal_right"}
    assert skills(item("identity", call=None)) == {"tool_chosen", "identity_right"}
    assert skills(item("chat", call=None)) == {"tool_chosen"}
    assert len({task.SKILL for task in TASKS}) == len(TASKS)


def test_bits_per_byte_of_equal_documents_has_no_error() -> None:
    ratio = bits_per_byte([math.log(2) * 10] * 4, [5] * 4)
    assert ratio.value == pytest.approx(2)
    assert ratio.se == pytest.approx(0)
    assert bits_per_byte([1.0], [4]).se == 0


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(1)
    means: list[float] = []
    errors: list[float] = []
    for _ in range(400):
        sizes = rng.integers(50, 500, 60)
        ratio = bits_per_byte(list(sizes * 0.7 + rng.normal(0, 20, 60)), sizes.tolist())
        means.append(ratio.value)
        errors.append(ratio.se)
    assert np.std(means) == pytest.approx(float(np.mean(errors)), rel=0.15)


def test_sources_together_are_the_whole() -> None:
    nats, sizes, sources = [1.0, 2.0, 3.0, 4.0], [3, 4, 5, 6], ["a", "b", "a", "b"]
    parts = by_source(sources, nats, sizes)
    assert list(parts) == ["a", "b"]
    whole = bits_per_byte(nats, sizes)
    weighted = parts["a"].value * 8 + parts["b"].value * 10
    assert whole.value == pytest.approx(weighted / 18)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_fractions(values: list[bool]) -> None:
    share = fraction(values)
    assert share.value == sum(values) / len(values)
    assert 0 < share.se < 0.5
    assert share.n == len(values)

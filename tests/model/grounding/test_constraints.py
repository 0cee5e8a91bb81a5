"""Demands on the form of an answer: read from a message, checked by code, met by what code formats."""

from __future__ import annotations

import json

import pytest

from model.grounding.constraints import (
    CHECKS,
    Constraint,
    are_met,
    count_sentences,
    count_words,
    format_answer,
    is_met,
    read_constraints,
    remove_demands,
)

DEMANDS = {
    "Return JSON with keys \"name\", \"due date\", and \"price\".": Constraint("json", ("name", "due date", "price")),
    "as JSON with the keys start and end": Constraint("json", ("start", "end")),
    "reply in JSON": Constraint("json", ()),
    "as a numbered list": Constraint("numbered"),
    "use bullet points": Constraint("bullets"),
    "one per line": Constraint("lines"),
    "separated by commas": Constraint("commas"),
    "Just give me the number.": Constraint("value_only", "number"),
    "only the label": Constraint("value_only"),
    "Answer in one word.": Constraint("n_words", 1),
    "in exactly three words": Constraint("n_words", 3),
    "in 5 words or less": Constraint("max_words", 5),
    "no more than ten words": Constraint("max_words", 10),
    "in under 20 words": Constraint("max_words", 19),
    "Sum it up in two sentences": Constraint("max_sentences", 2),
    "don't use commas": Constraint("no_commas"),
    "in ALL CAPS": Constraint("upper"),
    "answer in lower case": Constraint("lower"),
    "in quotation marks": Constraint("quotes"),
    'start your answer with "Sure"': Constraint("starts", "Sure"),
    'end with "over"': Constraint("ends", "over"),
}  # fmt: skip


@pytest.mark.parametrize("message", DEMANDS)
def test_a_demand_is_read_with_its_value(message: str) -> None:
    assert read_constraints(message) == (DEMANDS[message],)


@pytest.mark.parametrize(
    "message", ["", "What does numpy.sum do?", "sort a list of words", "list the keys of a dict", "no"]
)
def test_a_question_demands_nothing(message: str) -> None:
    assert read_constraints(message) == ()


@pytest.mark.parametrize("constraint", [each for each in DEMANDS.values() if each.kind != "n_words"])
def test_what_is_formatted_meets_the_demand(constraint: Constraint) -> None:
    values = ["Ada", "3 May"] if constraint.value != ("name", "due date", "price") else ["Ada", "3 May", "12"]
    reply = format_answer([constraint], values, sentence="name = Ada, due 3 May")
    assert is_met(constraint, reply), reply


def test_every_kind_that_is_read_has_a_check_that_can_fail() -> None:
    assert {each.kind for each in DEMANDS.values()} == set(CHECKS)
    broken = "Once, there was = one. Then\nanother. and. More. Words! here? now. then. so. it. goes. on. and on. to 20"
    assert [each for each in DEMANDS.values() if is_met(each, broken)] == [Constraint("lines")]
    assert not any(is_met(each, "  ") for each in DEMANDS.values())


def test_json_has_the_keys_in_their_order_and_any_text_as_a_value() -> None:
    demands = read_constraints("as JSON with keys b and a")
    reply = format_answer(demands, ['say "hi"', "é\n"])
    assert json.loads(reply) == {"b": 'say "hi"', "a": "é\n"}
    assert are_met(demands, reply)
    assert not are_met(demands, '{"a": 1, "b": 2}')
    assert not are_met(demands, "[" * 100_000)


def test_only_sentences_that_demand_are_removed() -> None:
    assert remove_demands("What is 12 * 7? Just give me the number.") == "What is 12 * 7?"
    assert remove_demands("Answer in one word.") == "Answer in one word."
    assert remove_demands("Use numpy.sum. It works in one word mode. Answer in one word.").endswith("mode.")


def test_counting_takes_addresses_numbers_and_contractions_for_one_word_each() -> None:
    assert count_words("it's 3.5 for a@b.org, at 10:30") == 6
    assert (count_sentences("Hi. It cost 3.50! Why"), count_sentences("")) == (3, 0)


def test_a_long_message_is_read_at_both_ends_in_linear_time() -> None:
    message = "a, b and c " * 50_000 + "answer in one word"
    assert read_constraints(message) == (Constraint("n_words", 1),)

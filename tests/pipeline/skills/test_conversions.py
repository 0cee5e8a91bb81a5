"""Units and dates: the results in training are the tools' own, the arguments copy what was typed."""

from __future__ import annotations

from random import Random

import pytest

from assistant.tools.dates import calculate_date
from assistant.tools.units import convert_units
from pipeline.skills.conversions import DATES, UNITS, make_date_examples, make_unit_examples
from pipeline.skills.skill import Item, Material


@pytest.mark.parametrize("is_heldout", [False, True])
def test_results_are_the_tools(nothing: Material, is_heldout: bool) -> None:
    nothing, rng = nothing._replace(is_heldout=is_heldout), Random(4)
    for example in [*make_unit_examples(150, nothing, rng), *make_date_examples(150, nothing, rng)]:
        _, call, tool, answer = example.messages
        assert answer.text == tool.text
        assert call.call is not None
        if call.call.name == "convert_units":
            assert tool.text == convert_units(call.call.argument)
        elif "today" not in call.call.argument:  # its result is another one each day
            assert tool.text == calculate_date(call.call.argument)


def test_arguments_copy_what_was_typed(nothing: Material) -> None:
    for example in [*make_unit_examples(150, nothing, Random(5)), *make_date_examples(150, nothing, Random(5))]:
        question, argument = example.messages[0].text, example.expected["call"]["argument"]
        for word in argument.removeprefix("weekday ").replace("->", " ").split():
            assert word in ("+", "-", "today") or word in question, (question, argument)


def test_the_call_is_scored_to_the_character(nothing: Material) -> None:
    for skill, examples in (
        (UNITS, make_unit_examples(1, nothing, Random(6))),
        (DATES, make_date_examples(1, nothing, Random(6))),
    ):
        example = examples[0]
        item = Item("1", example.kind, example.messages[:1], example.expected)
        assert skill.applies(item)
        assert skill.is_right(item, example.messages[1])
        assert not skill.is_right(item, example.messages[3])

"""Candidate calls of tools: what training asks for is among them, and no number is in them that the message does not have."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.grounding.calculations import list_calculations, list_expressions
from model.grounding.measures import list_conversions, list_date_expressions
from pipeline.skills.calculator import make_calculations
from pipeline.skills.conversions import make_date_examples, make_unit_examples
from pipeline.skills.skill import Example, Material


class NoPassages:
    """The makers of calculations look at none."""

    is_heldout = True
    new_wording_frac = 0.25


@pytest.mark.parametrize("make", [make_calculations, make_unit_examples, make_date_examples])
def test_what_is_trained_is_a_candidate_and_nearly_always_the_first(
    make: Callable[[int, Material, Random], list[Example]],
) -> None:
    examples = make(400, NoPassages(), Random(3))  # type: ignore[arg-type]
    candidates = [list_calculations(example.messages[0].text) for example in examples]
    calls = [example.messages[1].call for example in examples]
    assert sum(call in each for call, each in zip(calls, candidates, strict=True)) >= 0.99 * len(calls)
    assert sum(each[:1] == [call] for call, each in zip(calls, candidates, strict=True)) >= 0.93 * len(calls)


@pytest.mark.parametrize(
    ("message", "expression"),
    [
        ("12*7", "12 * 7"),
        ("What is (3 + 4) * 5?", "(3 + 4) * 5"),
        ("root please: sqrt 16 + 2", "sqrt(16) + 2"),
        ("square root of (9 + 16)", "sqrt(9 + 16)"),
        ("2 to the power of -1", "2 ^ -1"),
        ("I mean 7.5% of 1,200", "7.5% of 1200"),
        ("12% off 80", "80 - 12%"),
        ("250 with 20% off", "250 - 20%"),
        ("subtract 3 from 10", "10 - 3"),
        ("what is five times six", "5 * 6"),
        ("17 % 5", "17 % 5"),
        ("3 coffees at 2.80 each", "3 * 2.80"),
        ("3 × 4 ÷ 2", "3 * 4 / 2"),
        ("-15 + 40", "-15 + 40"),
        ("i paid 12, then: 4*19.95 + 2*5.10", "4 * 19.95 + 2 * 5.10"),
    ],
)
def test_expressions_of_words_and_signs(message: str, expression: str) -> None:
    assert list_expressions(message)[0] == expression


@pytest.mark.parametrize(
    ("message", "argument"),
    [
        ("5 ft 11 in to cm", "5 ft 11 in -> cm"),
        ("how many km is 26.2 miles", "26.2 miles -> km"),
        ("10 in in cm", "10 in -> cm"),
        ("my oven says 350 fahrenheit, i need celsius", "350 fahrenheit -> celsius"),
        ("5'11\" in cm?", "5'11\" -> cm"),
        ("30 mpg in l/100km", "30 mpg -> l/100km"),
        ("convert 5 apples to meters", "5 apples -> meters"),
        ("1,500 square feet in m²", "1,500 square feet -> m²"),
    ],
)
def test_conversions(message: str, argument: str) -> None:
    assert list_conversions(message)[0] == argument


@pytest.mark.parametrize(
    ("message", "argument"),
    [
        ("a deadline two weeks before March 1st, 2024", "March 1st, 2024 - 2 weeks"),
        ("between 2020-01-01 and 26 March 2021", "26 March 2021 - 2020-01-01"),
        ("2 months and 3 days after 2024-01-31", "2024-01-31 + 2 months + 3 days"),
        ("what was the date 3 weeks ago?", "today - 3 weeks"),
        ("1969-07-20 was a?", "weekday 1969-07-20"),
        ("welches Datum ist 10 Tage nach 1.2.2024", "1.2.2024 + 10 days"),
    ],
)
def test_date_expressions(message: str, argument: str) -> None:
    assert list_date_expressions(message)[0] == argument


@pytest.mark.parametrize("message", ["Thanks!", "what does numpy.sum do?", "print", "version 2.4 of numpy", ""])
def test_other_messages_have_none(message: str) -> None:
    assert list_calculations(message) == []


@given(st.text("0123456789+-*/%^()., kmtoinsqrft", max_size=60))
def test_no_number_is_invented(message: str) -> None:
    typed = set(re.findall(r"\d+", message.replace(",", ""))) | set(re.findall(r"\d+", message))
    for call in list_calculations(message):
        assert set(re.findall(r"\d+", call.argument)) <= typed


@given(
    st.text(max_size=80)
    | st.sampled_from(["(", "1+", "1 m ", "in ", "how many ", "sqrt ", "9"]).map(lambda text: text * 900)
)
def test_any_message_is_read_quickly(message: str) -> None:
    started_at = time.perf_counter()
    calls = list_calculations(message)
    assert time.perf_counter() - started_at < 1
    assert all("\n" not in call.argument for call in calls)


@pytest.mark.parametrize("text", ["need a random integer between 1 and 6", "pick a number from 3 to 9"])
def test_a_range_is_no_calculation(text: str) -> None:
    assert list_expressions(text) == []
    assert list_expressions("What is the difference between 10 and 4?") == ["10 - 4"]

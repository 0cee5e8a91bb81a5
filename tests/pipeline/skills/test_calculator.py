"""Calculations: values equal Python's exact fractions; results are formatted as the calculator formats them."""

from __future__ import annotations

import re
from fractions import Fraction
from random import Random

import pytest

from assistant.tools.arithmetic import calculate as calculate_text
from pipeline.skills.calculator import calculate, format_answer, format_value, make_calculation

NUMBER = re.compile(r"\d+(\.\d+)?")


@pytest.mark.parametrize("seed", range(3))
def test_results_are_the_calculators(seed: int) -> None:
    rng = Random(seed)
    for number in range(300):
        example = make_calculation(rng, is_new=number % 2 == 0)
        question, call, tool, answer = example.messages
        assert call.call is not None
        expression = call.call.argument
        assert tool.text == calculate_text(expression), expression
        assert expression == example.expected["call"]["argument"]
        numbers = NUMBER.finditer(re.sub(r" \^ [23]$", "", expression))  # squared, cubed: in words
        assert all(digits[0] in question.text for digits in numbers)
        if not tool.text.startswith("error"):
            assert answer.text == f"{expression} = {tool.text}"


def test_every_sort_of_calculation_is_asked_for() -> None:
    rng = Random(1)
    expressions = {make_calculation(rng).expected["call"]["argument"] for _ in range(600)}
    for sort in ("sqrt(", "cbrt(", " ^ ", "!", "% of ", " - ", "%", "(", " / "):
        assert any(sort in expression for expression in expressions), sort


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Fraction(84), "84"),
        (Fraction(1, 10), "0.1"),
        (Fraction(1, 3), "0.333333333333"),
        (Fraction(-7, 2), "-3.5"),
        (Fraction(12345678901234567, 2), "6172839450617283.5"),
        (Fraction(100), "100"),
        (None, "error: division by zero"),
    ],
)
def test_values_are_formatted_as_the_calculator_formats_them(value: Fraction | None, text: str) -> None:
    assert format_value(value) == text


def test_parentheses_and_precedence() -> None:
    assert calculate(["2", "+", "3", "*", "4"]) == 14
    assert calculate(["(2", "+", "3)", "*", "4"]) == 20
    assert calculate(["8", "/", "(4", "-", "4)"]) is None
    assert calculate(["10", "-", "2", "-", "3"]) == 5


def test_the_answer_reports_the_result_or_the_error() -> None:
    assert format_answer("1 / 0", "error: division by zero") == "I can't calculate that: division by zero."
    assert format_answer("6 * 7", "42") == "6 * 7 = 42"

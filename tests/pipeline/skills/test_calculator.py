"""Calculations: values equal Python's exact fractions; results are formatted as the calculator formats them."""

from __future__ import annotations

import re
from fractions import Fraction
from random import Random

import pytest

from assistant.tools.arithmetic import calculate as calculate_text
from pipeline.skills.calculator import calculate, format_answer, format_value, make_calculation

NUMBER = re.compile(r"\d+(\.\d+)?")


def evaluate_exactly(expression: str) -> Fraction | None:
    """Return the value by Python's parser, on fractions; None for a division by zero."""
    try:
        return eval(NUMBER.sub(lambda match: f"Fraction('{match[0]}')", expression), {"Fraction": Fraction})
    except ZeroDivisionError:
        return None


@pytest.mark.parametrize("seed", range(3))
def test_results_are_exact(seed: int) -> None:
    rng = Random(seed)
    for number in range(300):
        example = make_calculation(rng, is_new=number % 2 == 0)
        question, call, tool, answer = example.messages
        expression = call.call.argument
        assert tool.text == format_value(evaluate_exactly(expression)), expression
        assert expression == example.expected["call"]["argument"]
        assert all(digits[0] in question.text for digits in NUMBER.finditer(expression) if digits[0] != "100")
        if not tool.text.startswith("error"):
            assert answer.text == f"{expression} = {tool.text}"


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


def test_the_assistants_calculator_returns_the_same_text() -> None:
    rng = Random(9)
    for _ in range(300):
        _, call, tool, _ = make_calculation(rng).messages
        assert calculate_text(call.call.argument) == tool.text


def test_the_answer_reports_the_result_or_the_error() -> None:
    assert format_answer("1 / 0", "error: division by zero") == "I can't calculate that: division by zero."
    assert format_answer("6 * 7", "42") == "6 * 7 = 42"

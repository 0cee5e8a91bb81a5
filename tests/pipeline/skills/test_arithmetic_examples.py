"""Calculations: the value is Python's own, exact; the shown form is the calculator's."""

from __future__ import annotations

import re
from fractions import Fraction
from random import Random

import pytest

from pipeline.skills.arithmetic_examples import calculator_example, show, value_of

NUMBER = re.compile(r"\d+(\.\d+)?")


def exact(expression: str) -> Fraction | None:
    """By Python's parser, on fractions."""
    try:
        return eval(NUMBER.sub(lambda match: f"Fraction('{match[0]}')", expression), {"Fraction": Fraction})
    except ZeroDivisionError:
        return None


@pytest.mark.parametrize("seed", range(3))
def test_results_are_exact(seed: int) -> None:
    rng = Random(seed)
    for number in range(300):
        example = calculator_example(rng, is_new=number % 2 == 0)
        question, call, tool, answer = example.messages
        expression = call.call.argument
        assert tool.text == show(exact(expression)), expression
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
def test_shown(value: Fraction | None, text: str) -> None:
    assert show(value) == text


def test_brackets_and_precedence() -> None:
    assert value_of(["2", "+", "3", "*", "4"]) == 14
    assert value_of(["(2", "+", "3)", "*", "4"]) == 20
    assert value_of(["8", "/", "(4", "-", "4)"]) is None
    assert value_of(["10", "-", "2", "-", "3"]) == 5


def test_the_assistant_calculates_the_same() -> None:
    calculator = pytest.importorskip("assistant.tools.toolbox.arithmetic")
    rng = Random(9)
    for _ in range(300):
        _, call, tool, _ = calculator_example(rng).messages
        assert calculator.calculate(call.call.argument) == tool.text

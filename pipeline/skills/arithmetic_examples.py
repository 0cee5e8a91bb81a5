"""Examples of calculating: an expression in many wordings → a call of the calculator → its result in a sentence.

In: a random generator. Out: conversations. Results are exact fractions, shown as the calculator shows them: whole
numbers in full, others with twelve significant digits. Wordings whose names begin with NEW are kept for evaluation.
"""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction
from random import Random
from typing import NamedTuple

from model.tokenizer.chat import Message, ToolCall, call_to_json
from pipeline.skills.answers import result
from pipeline.skills.lookups import Example

SIGNIFICANT_DIGITS = 12
WORDINGS = (
    *(
        "What is {e}?",
        "what is {e}",
        "What's {e}?",
        "what's {e}?",
        "Calculate {e}.",
        "calculate {e}",
        "Compute {e}.",
        "compute {e}",
    ),
    *(
        "How much is {e}?",
        "how much is {e}",
        "{e}",
        "{e} = ?",
        "{e}=",
        "{e}?",
        "Work out {e}.",
        "Evaluate {e}.",
        "evaluate {e}",
    ),
    *(
        "Solve {e}.",
        "Please calculate {e}.",
        "Can you compute {e}?",
        "Could you calculate {e} for me?",
        "Tell me what {e} is.",
    ),
    *(
        "What does {e} give?",
        "What do I get for {e}?",
        "I need the value of {e}.",
        "Give me the result of {e}.",
        "And {e}?",
    ),
    *("What about {e}?", "Hi, what is {e}?", "Hello, can you calculate {e}?", "quick: {e}", "Do you know what {e} is?"),
)
NEW_WORDINGS = ("What is the result of {e}?", "Could you work out {e}?", "please compute {e}", "Find {e}.")
# "×" and "÷" stand twice: bytes of their own, seen too seldom, were half of all mistakes.
SPELLED = {
    "+": ("{a} plus {b}", "the sum of {a} and {b}", "{a} added to {b}"),
    "-": ("{a} minus {b}", "the difference of {a} and {b}", "{a} less {b}"),
    "*": ("{a} times {b}", "{a} multiplied by {b}", "the product of {a} and {b}", "{a} x {b}", *["{a} × {b}"] * 2),
    "/": ("{a} divided by {b}", "{a} over {b}", *["{a} ÷ {b}"] * 2, "the quotient of {a} and {b}"),
}
STORIES = (
    ("I have {a} apples and buy {b} more. How many are there?", "+"),
    ("There are {a} cars, {b} drive away. How many are left?", "-"),
    ("One box holds {a} pens. How many pens are in {b} boxes?", "*"),
    ("{a} coins are shared by {b} people. How many does each get?", "/"),
    ("One ticket costs {a}. What do {b} tickets cost?", "*"),
    ("I had {a} and spent {b}. What is left?", "-"),
)


class Sum(NamedTuple):
    """`written` is what the calculator gets, `typed` what the person wrote for it."""

    written: str
    value: Fraction | None  # None: division by zero
    typed: str


def show(value: Fraction | None) -> str:
    """As the calculator writes it."""
    if value is None:
        return "error: division by zero"
    if value.denominator == 1:
        return str(value.numerator)
    digits = max(SIGNIFICANT_DIGITS, len(str(abs(int(value)))) + 6)
    rounded = Context(prec=digits).divide(Decimal(value.numerator), Decimal(value.denominator))
    return f"{rounded:f}".rstrip("0").rstrip(".")


def calculator_example(rng: Random, *, is_new: bool = False) -> Example:
    sum_, question = _story(rng) if not is_new and rng.random() < 0.08 else _asked(rng, is_new)
    value = show(sum_.value)
    answer = result(sum_.written, value)
    call = ToolCall.of("calculator", sum_.written)
    messages = [
        Message.of("user", question),
        Message.calling(call),
        Message.result(value),
        Message.of("assistant", answer),
    ]
    return Example("calculator", messages, {"call": call_to_json(call), "answer": answer})


def _asked(rng: Random, is_new: bool) -> tuple[Sum, str]:
    sum_ = _any_sum(rng)
    return sum_, rng.choice(NEW_WORDINGS if is_new else WORDINGS).format(e=sum_.typed)


def _any_sum(rng: Random) -> Sum:
    chance = rng.random()
    if chance < 0.2:
        return _spelled(rng)
    if chance < 0.26:
        return _percent(rng)
    return _chain(rng, 1 if chance < 0.7 else 2 if chance < 0.92 else 3)


def number(rng: Random) -> str:
    """One to five digits, each length about as often; one in six with decimals."""
    size = rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5))
    whole = rng.randint(10 ** (size - 1) if size > 1 else 0, 10**size - 1)
    return f"{whole}.{rng.randint(1, 99):02d}".rstrip("0") if rng.random() < 1 / 6 else str(whole)


def _chain(rng: Random, n_operators: int) -> Sum:
    """`12 * 7`, `3 + 4 * 5`, `(3 + 4) * 5`."""
    numbers = [number(rng) for _ in range(n_operators + 1)]
    if rng.random() < 0.05:
        numbers[0] = f"-{numbers[0]}"
    signs = [rng.choice("+-*/") for _ in range(n_operators)]
    parts = [numbers[0], *(part for pair in zip(signs, numbers[1:], strict=True) for part in pair)]
    if n_operators > 1 and rng.random() < 0.6:
        first = rng.choice(range(0, len(parts) - 2, 2))
        parts[first] = "(" + parts[first]
        parts[first + 2] += ")"
    written = " ".join(parts)
    typed = written.replace(" ", "") if rng.random() < 0.35 else written
    return Sum(written, value_of(parts), typed)


def value_of(parts: list[str]) -> Fraction | None:
    """Of numbers, operators and one level of brackets; None where something is divided by zero."""
    first = next((place for place, part in enumerate(parts) if part.startswith("(")), None)
    try:
        if first is not None:
            last = next(place for place, part in enumerate(parts) if part.endswith(")"))
            inner = [parts[first][1:], *parts[first + 1 : last], parts[last][:-1]]
            bracket = _flat([Fraction(part) if place % 2 == 0 else part for place, part in enumerate(inner)])
            outer = [
                Fraction(part) if place % 2 == 0 else part
                for place, part in enumerate(parts)
                if not first <= place <= last
            ]
            return _flat([*outer[:first], bracket, *outer[first:]])
        return _flat([Fraction(part) if place % 2 == 0 else part for place, part in enumerate(parts)])
    except ZeroDivisionError:
        return None


def _flat(parts: list[Fraction | str]) -> Fraction:
    """Products first, from the left, then sums."""
    total, product, sign = Fraction(0), Fraction(str(parts[0])), 1
    for operator, operand in zip(parts[1::2], parts[2::2], strict=True):
        operand = Fraction(str(operand))
        if operator == "*":
            product *= operand
        elif operator == "/":
            product /= operand
        else:
            total += sign * product
            product, sign = operand, 1 if operator == "+" else -1
    return total + sign * product


def _binary(a: str, operator: str, b: str, typed: str) -> Sum:
    return Sum(f"{a} {operator} {b}", value_of([a, operator, b]), typed)


def _spelled(rng: Random) -> Sum:
    a, b, operator = number(rng), number(rng), rng.choice("+-*/")
    return _binary(a, operator, b, rng.choice(SPELLED[operator]).format(a=a, b=b))


def _percent(rng: Random) -> Sum:
    """`15% of 80` → `15 / 100 * 80`."""
    a, b = str(rng.randint(1, 99)), number(rng)
    typed = rng.choice(("{a}% of {b}", "{a} % of {b}", "{a} percent of {b}")).format(a=a, b=b)
    parts = [a, "/", "100", "*", b]
    return Sum(" ".join(parts), value_of(parts), typed)


def _story(rng: Random) -> tuple[Sum, str]:
    story, operator = rng.choice(STORIES)
    a, b = str(rng.randint(2, 999)), str(rng.randint(2, 99))
    question = story.format(a=a, b=b)
    return _binary(a, operator, b, question), question

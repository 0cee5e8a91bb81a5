"""Skills: hand a calculation in words or digits to the calculator, exact to the character; report its result, every digit.

In: a random generator. Out: an expression in many wordings → a call of the calculator → its result in a sentence. Sums,
products and their chains, powers (`2 ^ 10`), roots (`sqrt(144)`), percentages (`15% of 80`, `80 + 15%`), factorials, remainders.
Results are exact fractions, formatted as the calculator formats them: whole numbers in full, others with twelve significant
digits. Wordings in tuples whose names start with NEW are reserved for evaluation.
"""

from __future__ import annotations

import math
from decimal import Context, Decimal
from fractions import Fraction
from random import Random
from typing import NamedTuple

from model.tokenizer.chat import Message, ToolCall, call_to_json
from pipeline.skills.skill import Example, Item, Maker, Material, Skill, cut_before_result, has_expected_call

SIGNIFICANT_DIGITS = 12
# fmt: off
WORDINGS = (
    "What is {e}?", "what is {e}", "What's {e}?", "what's {e}?", "Calculate {e}.", "calculate {e}", "Compute {e}.",
    "compute {e}", "How much is {e}?", "how much is {e}", "{e}", "{e} = ?", "{e}=", "{e}?", "Work out {e}.",
    "Evaluate {e}.", "evaluate {e}", "Solve {e}.", "Please calculate {e}.", "Can you compute {e}?",
    "Could you calculate {e} for me?", "Tell me what {e} is.", "What does {e} give?", "What do I get for {e}?",
    "I need the value of {e}.", "Give me the result of {e}.", "And {e}?", "What about {e}?", "Hi, what is {e}?",
    "Hello, can you calculate {e}?", "quick: {e}", "Do you know what {e} is?", "now {e}", "ok and {e}?",
    "How do I calculate {e}?", "value of {e}", "Add it up: {e}", "whats {e}", "can u do {e}", "{e} please",
    "Was ist {e}?", "Wie viel ist {e}?", "Berechne {e}.", "Combien font {e} ?", "¿Cuánto es {e}?", "Quanto fa {e}?",
)
NEW_WORDINGS = (
    "What is the result of {e}?", "Could you work out {e}?", "please compute {e}", "Find {e}.", "how much would {e} be",
)
POWERS = (
    "{a}^{b}", "{a} ^ {b}", "{a}**{b}", "{a} ** {b}", "{a} to the power of {b}", "{a} to the power {b}", "{a} raised to {b}",
    "{a} to the {b}th power", "{a} raised to the power of {b}",
)
SQUARES = ("{a} squared", "the square of {a}", "{a}²", "{a} to the power of 2", "{a}^2")
CUBES = ("{a} cubed", "the cube of {a}", "{a}³", "{a} to the third power", "{a}^3")
SQUARE_ROOTS = ("the square root of {a}", "square root of {a}", "sqrt({a})", "sqrt {a}", "√{a}", "the root of {a}", "sqrt of {a}")
CUBE_ROOTS = ("the cube root of {a}", "cube root of {a}", "cbrt({a})", "the third root of {a}")
SHARES = ("{a}% of {b}", "{a} % of {b}", "{a} percent of {b}", "{a} per cent of {b}")
RISES = ("{b} plus {a}%", "{b} + {a}%", "{b} increased by {a}%", "{b} with {a}% added", "{b} plus {a} percent")
CUTS = ("{b} minus {a}%", "{b} - {a}%", "{b} reduced by {a}%", "{b} less {a} percent", "{b} with {a}% off")
FACTORIALS = ("{a}!", "{a} factorial", "the factorial of {a}", "factorial of {a}")
REMAINDERS = ("{a} mod {b}", "{a} % {b}", "the remainder of {a} divided by {b}", "{a} modulo {b}")
# fmt: on
# "×" and "÷" are listed twice: they are bytes of their own, and seen too rarely they were half of all mistakes.
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
    ("A pack has {a} screws. How many screws are in {b} packs?", "*"),
    ("{a} kids share {b} rooms. How many per room?", "/"),
    ("We drove {a} km on Monday and {b} km on Tuesday. How far in all?", "+"),
    ("I read {a} pages a day. How many pages is that in {b} days?", "*"),
    ("Of {a} tickets {b} are sold. How many remain?", "-"),
)


class Calculation(NamedTuple):
    """`expression` is the calculator's argument, `typed` the user's wording of it."""

    expression: str
    value: Fraction | None  # None: division by zero
    typed: str


def make_calculations(n: int, material: Material, rng: Random) -> list[Example]:
    """Return `n` calculations; no passage is needed."""
    new_frac = material.new_wording_frac
    return [make_calculation(rng, is_new=new_frac > 0 and rng.random() < new_frac) for _ in range(n)]


def hold_out_calculations(examples: list[Example]) -> list[Example]:
    """Return all of them up to the call, and half of them once more up to the answer."""
    return [*cut_before_result(examples), *examples[: (len(examples) + 1) // 2]]


def make_calculation(rng: Random, *, is_new: bool = False) -> Example:
    """Return one conversation: question, call, result, answer."""
    calculation, question = _make_story(rng) if not is_new and rng.random() < 0.08 else _make_question(rng, is_new)
    value = format_value(calculation.value)
    answer = format_answer(calculation.expression, value)
    call = ToolCall.of("calculator", calculation.expression)
    messages = [
        Message.of("user", question),
        Message.calling(call),
        Message.result(value),
        Message.of("assistant", answer),
    ]
    return Example("calculator", messages, {"call": call_to_json(call), "answer": answer})


def format_value(value: Fraction | None) -> str:
    """Return a result as the calculator formats it."""
    if value is None:
        return "error: division by zero"
    if value.denominator == 1:
        return str(value.numerator)
    digits = max(SIGNIFICANT_DIGITS, len(str(abs(int(value)))) + 6)
    rounded = Context(prec=digits).divide(Decimal(value.numerator), Decimal(value.denominator))
    return f"{rounded:f}".rstrip("0").rstrip(".")


def format_answer(expression: str, value: str) -> str:
    """Return the sentence that reports the calculator's result, which may be an error."""
    if value.startswith("error: "):
        return f"I can't calculate that: {value.removeprefix('error: ')}."
    return f"{expression} = {value}"


def _make_question(rng: Random, is_new: bool) -> tuple[Calculation, str]:
    calculation = _make_any(rng)
    return calculation, rng.choice(NEW_WORDINGS if is_new else WORDINGS).format(e=calculation.typed)


def _make_any(rng: Random) -> Calculation:
    chance = rng.random()
    if chance < 0.15:
        return _make_spelled(rng)
    if chance < 0.25:
        return _make_percentage(rng)
    if chance < 0.45:
        return _make_power(rng)
    return _make_chain(rng, 1 if chance < 0.72 else 2 if chance < 0.88 else 3 if chance < 0.95 else rng.randint(4, 7))


def draw_number(rng: Random) -> str:
    """Return a number of one to five digits, each length about as often; one in six has decimals."""
    size = rng.choice((1, 1, 2, 2, 2, 3, 3, 4, 5))
    whole = rng.randint(10 ** (size - 1) if size > 1 else 0, 10**size - 1)
    return f"{whole}.{rng.randint(1, 99):02d}".rstrip("0") if rng.random() < 1 / 6 else str(whole)


def _make_chain(rng: Random, n_operators: int) -> Calculation:
    """Return a calculation such as `12 * 7`, `3 + 4 * 5`, `(3 + 4) * 5`."""
    numbers = [draw_number(rng) for _ in range(n_operators + 1)]
    if rng.random() < 0.05:
        numbers[0] = f"-{numbers[0]}"
    operators = [rng.choice("+-*/") for _ in range(n_operators)]
    parts = [numbers[0], *(part for pair in zip(operators, numbers[1:], strict=True) for part in pair)]
    if n_operators > 1 and rng.random() < 0.6:
        first = rng.choice(range(0, len(parts) - 2, 2))
        parts[first] = "(" + parts[first]
        parts[first + 2] += ")"
    expression = " ".join(parts)
    typed = expression.replace(" ", "") if rng.random() < 0.35 else expression
    return Calculation(expression, calculate(parts), typed)


def calculate(parts: list[str]) -> Fraction | None:
    """Return the value of numbers and operators with at most one pair of parentheses; None for a division by zero."""
    first = next((index for index, part in enumerate(parts) if part.startswith("(")), None)
    try:
        if first is None:
            return _calculate_flat(parts)
        last = next(index for index, part in enumerate(parts) if part.endswith(")"))
        inner = _calculate_flat([parts[first][1:], *parts[first + 1 : last], parts[last][:-1]])
        return _calculate_flat([*parts[:first], str(inner), *parts[last + 1 :]])
    except ZeroDivisionError:
        return None


def _calculate_flat(parts: list[str]) -> Fraction:
    """Return the value without parentheses: products and quotients first, from left to right."""
    total, product, sign = Fraction(0), Fraction(parts[0]), 1
    for operator, operand in zip(parts[1::2], map(Fraction, parts[2::2]), strict=True):
        if operator == "*":
            product *= operand
        elif operator == "/":
            product /= operand
        else:
            total += sign * product
            product, sign = operand, 1 if operator == "+" else -1
    return total + sign * product


def _make_binary(a: str, operator: str, b: str, typed: str) -> Calculation:
    return Calculation(f"{a} {operator} {b}", calculate([a, operator, b]), typed)


def _make_spelled(rng: Random) -> Calculation:
    a, b, operator = draw_number(rng), draw_number(rng), rng.choice("+-*/")
    return _make_binary(a, operator, b, rng.choice(SPELLED[operator]).format(a=a, b=b))


def _make_percentage(rng: Random) -> Calculation:
    """Return `15% of 80`, `80 + 15%` or `80 - 15%`: a percentage that is added is one of the number before it."""
    a, b = str(rng.randint(1, 99)), draw_number(rng)
    if rng.random() < 0.1:
        a += rng.choice((".5", ".25"))
    share, whole = Fraction(a) / 100, Fraction(b)
    sort = rng.choice(("of", "of", "+", "-"))
    expression = f"{a}% of {b}" if sort == "of" else f"{b} {sort} {a}%"
    value = {"of": share * whole, "+": whole * (1 + share), "-": whole * (1 - share)}[sort]
    typed = rng.choice({"of": SHARES, "+": RISES, "-": CUTS}[sort]).format(a=a, b=b)
    return Calculation(expression, value, typed)


def _make_power(rng: Random) -> Calculation:
    """Return a power, a root, a factorial or a remainder."""
    sort = rng.choice(("power", "square", "cube", "sqrt", "sqrt", "cbrt", "factorial", "remainder"))
    a, b = rng.randint(2, 99), rng.randint(2, 12)
    match sort:
        case "power":
            return Calculation(f"{a} ^ {b}", Fraction(a**b), rng.choice(POWERS).format(a=a, b=b))
        case "square":
            a = rng.randint(2, 999)
            return Calculation(f"{a} ^ 2", Fraction(a**2), rng.choice(SQUARES).format(a=a))
        case "cube":
            return Calculation(f"{a} ^ 3", Fraction(a**3), rng.choice(CUBES).format(a=a))
        case "sqrt":
            square = a * a if rng.random() < 0.5 else rng.randint(2, 9999)
            return Calculation(f"sqrt({square})", take_root(square, 2), rng.choice(SQUARE_ROOTS).format(a=square))
        case "cbrt":
            cube = b**3 if rng.random() < 0.5 else rng.randint(2, 9999)
            return Calculation(f"cbrt({cube})", take_root(cube, 3), rng.choice(CUBE_ROOTS).format(a=cube))
        case "factorial":
            n = rng.randint(2, 20)
            return Calculation(f"{n}!", Fraction(math.factorial(n)), rng.choice(FACTORIALS).format(a=n))
        case _:
            a = rng.randint(2, 9999)
            return Calculation(f"{a} % {b}", Fraction(a % b), rng.choice(REMAINDERS).format(a=a, b=b))


def take_root(value: int, degree: int) -> Fraction:
    """Return the root as the calculator does: exact if it is whole, else a float's 15 digits."""
    root = round(value ** (1 / degree))
    return Fraction(root) if root**degree == value else Fraction(f"{float(value) ** float(Fraction(1, degree)):.15g}")


def _make_story(rng: Random) -> tuple[Calculation, str]:
    story, operator = rng.choice(STORIES)
    a, b = str(rng.randint(2, 999)), str(rng.randint(2, 99))
    question = story.format(a=a, b=b)
    return _make_binary(a, operator, b, question), question


def _reports_result(item: Item, reply: Message) -> bool:
    return reply.call is None and reply.text.strip() == item.expected["answer"]


CALCULATOR = Skill(
    name="calculator_exact",
    title="Calculator called",
    meaning="the expression is exact to the character",
    max_drop=0.03,
    applies=lambda item: item.kind == "calculator" and item.is_first_turn,
    is_right=has_expected_call,
    makers=(Maker("calculator", "calculator", make_calculations, hold_out_calculations),),
)
CALCULATOR_ANSWER = Skill(
    name="calculator_answer_exact",
    title="Result reported",
    meaning="every digit",
    max_drop=0.04,
    applies=lambda item: item.kind == "calculator" and not item.is_first_turn,
    is_right=_reports_result,
)

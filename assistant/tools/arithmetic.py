"""Evaluate an arithmetic expression safely: text in, the number as text out, or `error: …`.

In: `12 * 7`, `(0.1 + 0.2) / 3`, `sqrt(144)`, `2 ^ 10`, `27 ^ (1/3)`, `5!`, `15% of 80`, `80 + 15%`, `17 % 5`, `3 × 4 ÷ 2`.
Out: `84`, `0.1`, `12`, `1024`, `3`, `120`, `12`, `92`, `2`, `6`.
Arithmetic is exact (fractions) and rounded once, at the end, to 12 significant digits, integers not at all, so 0.1 + 0.2 is 0.3.
Roots are exact where they are rational; others are floats of 15 digits. Precedence is Python's; `^` is a power, as in `**`.

A percent sign is a modulo where an operand follows (`17 % 5`, `17 % -5`), and a percentage elsewhere (`15%`, `15% of 80`,
`15% * 80`). Added or subtracted, a percentage is one of the left operand, as on a pocket calculator: 80 + 15% is 92.

Covers: nothing is executed; a Pratt parser (1973) reads numbers, operators and four functions and refuses anything else. Time and
memory are bounded before they are spent, by the length of the text, the nesting depth, the size of exponents and the size of
every intermediate result: milliseconds for any input.
Does not cover: variables, comparisons, complex numbers, other bases.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from typing import NamedTuple

MAX_CHARS = 1_000  # a sum of a hundred prices
MAX_DEPTH = 30
MAX_DIGITS = 100  # of a result
MAX_BITS = 2_000  # of any intermediate numerator or denominator, about 600 digits
MAX_EXPONENT = 1_000
MAX_FACTORIAL = 300  # 300! has 2,042 bits
SIGNIFICANT_DIGITS = 12
ALLOWED = "only numbers, + - * / // % ^ ! ( ), sqrt, cbrt, abs and factorial are allowed"

_SPELLINGS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-", "²": "**2", "³": "**3", "√": "sqrt "}
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)
_DIGITS = r"[0-9]+(?:_[0-9]+)*"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>(?:{_DIGITS}\.?(?:{_DIGITS})?|\.{_DIGITS})(?:[eE](?P<exponent>[+-]?[0-9]{{1,5}}))?)"
    r"|(?P<name>[A-Za-z]+)|(?P<sign>\*\*|//|[-+*/%^!()]))",
    re.ASCII,
)
_NO_OPERAND = re.compile(r"\s*(?:$|[)*/^%!]|of\b)")  # what follows the sign of a percentage
_SIGNED_OPERAND = re.compile(r"\s+[-+]\S")


class _RefusedError(ValueError):
    """The expression is refused; the message is the reason."""


class _Token(NamedTuple):
    kind: str  # number, name, end, or the sign itself; "percent" for a percentage
    value: Fraction = Fraction(0)
    name: str = ""


class _Term(NamedTuple):
    value: Fraction
    is_percentage: bool = False


def calculate(expression: str) -> str:
    """Evaluate arithmetic, as in `12 * 7`, `15% of 80` or `sqrt(144)`. Return the number as text, or `error: ` and the reason.

    Never raises.
    """
    try:
        return format_number(_Parser(_split(expression)).parse())
    except _RefusedError as error:
        return f"error: {error}"
    except ZeroDivisionError:
        return "error: division by zero"


def format_number(number: Fraction, digits: int = SIGNIFICANT_DIGITS) -> str:
    """Format an integer in full, any other number with `digits` significant digits, without an exponent unless it is very
    small."""
    if number.denominator == 1:
        text = str(number.numerator)
        if len(text.lstrip("-")) > MAX_DIGITS:
            raise _RefusedError(f"the result has more than {MAX_DIGITS} digits")
        return text
    n_whole = len(str(abs(int(number))))
    if n_whole > MAX_DIGITS:
        raise _RefusedError(f"the result has more than {MAX_DIGITS} digits")
    rounding = Context(prec=max(digits, n_whole + digits // 2))
    rounded = rounding.divide(Decimal(number.numerator), Decimal(number.denominator))
    if rounded.adjusted() < -SIGNIFICANT_DIGITS:
        return str(rounded.normalize(rounding)).replace("E", "e")
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _split(expression: str) -> list[_Token]:
    if len(expression) > MAX_CHARS:
        raise _RefusedError(f"the expression is longer than {MAX_CHARS} characters")
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), expression.translate(_SPELLINGS)).strip()
    if not text:
        raise _RefusedError("nothing to compute")
    tokens: list[_Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise _RefusedError(ALLOWED)
        position = match.end()
        if match["number"]:
            tokens.append(_Token("number", _parse_literal(match["number"], match["exponent"])))
        elif match["name"]:
            tokens.append(_Token("name", name=match["name"].lower()))
        elif match["sign"] == "%":
            tokens.append(_Token("percent" if _is_percentage(text, position) else "%"))
        else:
            tokens.append(_Token({"^": "**"}.get(match["sign"], match["sign"])))
    return [*tokens, _Token("end")]


def _is_percentage(text: str, position: int) -> bool:
    """Return whether the percent sign that ends at `position` marks a percentage; it is a modulo otherwise."""
    if _NO_OPERAND.match(text, position):
        return True
    if not text[position:].lstrip().startswith(("+", "-")):
        return False
    return not (text[position - 2 : position - 1].isspace() and _SIGNED_OPERAND.match(text, position))


def _parse_literal(text: str, exponent: str | None) -> Fraction:
    if exponent and abs(int(exponent)) > MAX_EXPONENT // 2:
        raise _RefusedError("an intermediate result is too large")
    return _check_size(Fraction(text))


class _Parser:
    """Evaluates while it reads: a chain of operators of one precedence is a loop, so only nesting costs depth."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens, self._position = tokens, 0

    def parse(self) -> Fraction:
        term = self._parse_chain(0, 0)
        if self._peek() != "end":
            raise _RefusedError("this is not an arithmetic expression")
        return term.value

    def _peek(self) -> str:
        token = self._tokens[self._position]
        return token.name if token.kind == "name" else token.kind

    def _next(self) -> _Token:
        token = self._tokens[self._position]
        self._position += 1
        return token

    def _parse_chain(self, precedence: int, depth: int) -> _Term:
        """Parse operands joined by operators that bind at least as tightly as `precedence`."""
        if depth > MAX_DEPTH:
            raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels")
        left = self._parse_operand(depth)
        while (binding := _PRECEDENCES.get(operator := self._peek(), -1)) >= precedence:
            self._next()
            is_power = operator == "**"  # binds to the right: 2 ** 3 ** 2 is 2 ** 9
            right = self._parse_chain(binding if is_power else binding + 1, depth + 1)
            left = _Term(_apply(operator, left, right))
        return left

    def _parse_operand(self, depth: int) -> _Term:
        token = self._next()
        if token.kind == "number":
            value = token.value
        elif token.kind in ("+", "-"):
            term = self._parse_chain(_PRECEDENCES["*"] + 1, depth + 1)  # -2 ** 2 is -4
            return term._replace(value=-term.value) if token.kind == "-" else term
        elif token.kind == "(":
            value = self._parse_group(depth)
        elif token.name in _FUNCTIONS:
            value = _check_size(_FUNCTIONS[token.name](self._parse_argument(depth)))
        else:
            raise _RefusedError(ALLOWED if token.kind == "name" else "this is not an arithmetic expression")
        return self._parse_suffixes(value)

    def _parse_group(self, depth: int) -> Fraction:
        value = self._parse_chain(0, depth + 1).value
        if self._next().kind != ")":
            raise _RefusedError("this is not an arithmetic expression")
        return value

    def _parse_argument(self, depth: int) -> Fraction:
        """Parse what a function is called with: a group, or one number, as in `√16`."""
        token = self._next()
        if token.kind == "number":
            return token.value
        if token.kind != "(":
            raise _RefusedError("this is not an arithmetic expression")
        return self._parse_group(depth)

    def _parse_suffixes(self, value: Fraction) -> _Term:
        is_percentage = False
        while (suffix := self._peek()) in ("!", "percent"):
            self._next()
            value = _compute_factorial(value) if suffix == "!" else value / 100
            is_percentage = suffix == "percent"
        return _Term(_check_size(value), is_percentage)


def _apply(operator: str, left: _Term, right: _Term) -> Fraction:
    if operator == "of" and not left.is_percentage and left.value.denominator == 1:
        raise _RefusedError("“of” follows a percentage or a fraction")
    if operator in "+-" and right.is_percentage and not left.is_percentage:
        right = _Term(left.value * right.value)
    return _check_size(_OPERATORS[operator](left.value, right.value))


def _check_size(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _RefusedError("an intermediate result is too large")
    return value


def _raise_to_power(base: Fraction, exponent: Fraction) -> Fraction:
    n_bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    if abs(exponent) > MAX_EXPONENT or (n_bits > 1 and n_bits * abs(exponent) > 2 * MAX_BITS):
        raise _RefusedError("the power is too large")
    if exponent.denominator == 1:
        return base ** int(exponent)
    if base < 0:
        raise _RefusedError("a fractional power of a negative number is not a real number")
    root = _extract_root(base, exponent.denominator)
    if root is not None:
        return root**exponent.numerator
    try:
        power = float(base) ** float(exponent)
        if power == 0 != base:
            raise _RefusedError("the power is too small")
        return Fraction(f"{power:.15g}")  # a float represents 15 digits reliably
    except (OverflowError, ValueError):
        raise _RefusedError("the power is too large") from None


def _extract_root(value: Fraction, degree: int) -> Fraction | None:
    """Return the root of a number that is not negative if it is rational, else None."""
    if degree > MAX_BITS:
        return value if value in (0, 1) else None
    numerator, denominator = _floor_root(value.numerator, degree), _floor_root(value.denominator, degree)
    root = Fraction(numerator, denominator)
    return root if (numerator**degree, denominator**degree) == (value.numerator, value.denominator) else None


def _floor_root(value: int, degree: int) -> int:
    """Return the largest integer whose power is at most `value`, by Newton's method from above."""
    if degree == 2:
        return math.isqrt(value)
    if value < 2:
        return value
    guess = 1 << -(-value.bit_length() // degree)
    while (better := ((degree - 1) * guess + value // guess ** (degree - 1)) // degree) < guess:
        guess = better
    return guess


def _compute_square_root(value: Fraction) -> Fraction:
    if value < 0:
        raise _RefusedError("the square root of a negative number is not a real number")
    return _raise_to_power(value, Fraction(1, 2))


def _compute_cube_root(value: Fraction) -> Fraction:
    root = _raise_to_power(abs(value), Fraction(1, 3))
    return root if value >= 0 else -root


def _compute_factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= MAX_FACTORIAL:
        raise _RefusedError(f"a factorial needs a whole number from 0 to {MAX_FACTORIAL}")
    return Fraction(math.factorial(int(value)))


def _floor_divide(left: Fraction, right: Fraction) -> Fraction:
    return Fraction(left // right)


_FUNCTIONS: dict[str, Callable[[Fraction], Fraction]] = {
    "sqrt": _compute_square_root,
    "cbrt": _compute_cube_root,
    "abs": abs,
    "factorial": _compute_factorial,
}
_OPERATORS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "of": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "//": _floor_divide,
    "%": lambda left, right: left % right,
    "**": _raise_to_power,
}
_PRECEDENCES = {"+": 0, "-": 0, "*": 1, "of": 1, "/": 1, "//": 1, "%": 1, "**": 3}

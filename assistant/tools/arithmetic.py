"""Evaluate an arithmetic expression safely: text in, the number as text out, or `error: …`.

In: `12 * 7`, `(0.1 + 0.2) / 3`, `2 ** 0.5`, `-7 // 2`, `1_000 % 7`. Out: `84`, `0.1`, `1.41421356237`, `-4`, `6`.
Arithmetic is exact (fractions) and rounded once, at the end, to 12 significant digits, integers not at all, so 0.1 + 0.2 is 0.3.

Covers: nothing is executed. The text is parsed, and any node but numbers and + - * / // % ** ( ) is refused. Time and memory
are bounded before they are spent, by the length of the text, the nesting depth, the size of exponents and the size of every
intermediate result: milliseconds for any input.
Does not cover: names, functions, comparisons, complex numbers, other bases; a fractional power is a float (15 digits).
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

MAX_CHARS = 200
MAX_DEPTH = 30
MAX_DIGITS = 100  # of a result
MAX_BITS = 2_000  # of any intermediate numerator or denominator, about 600 digits
MAX_EXPONENT = 1_000
SIGNIFICANT_DIGITS = 12

_ALLOWED = re.compile(r"[0-9eE_.+\-*/%()\s]*", re.ASCII)
_LITERAL = re.compile(r"(?:[0-9_]+\.?[0-9_]*|\.[0-9_]+)(?:[eE]([+-]?[0-9_]{1,4}))?", re.ASCII)


class _RefusedError(ValueError):
    """The expression is refused; the message is the reason."""


def calculate(expression: str) -> str:
    """Return the result as text, or `error: ` and the reason. Never raises."""
    try:
        return format_number(_evaluate(_parse(expression), expression.strip(), 0))
    except _RefusedError as error:
        return f"error: {error}"
    except ZeroDivisionError:
        return "error: division by zero"


def format_number(number: Fraction) -> str:
    """Format an integer in full, any other number with 12 significant digits, without an exponent unless it is very small."""
    if number.denominator == 1:
        text = str(number.numerator)
        if len(text.lstrip("-")) > MAX_DIGITS:
            raise _RefusedError(f"the result has more than {MAX_DIGITS} digits")
        return text
    n_whole = len(str(abs(int(number))))
    if n_whole > MAX_DIGITS:
        raise _RefusedError(f"the result has more than {MAX_DIGITS} digits")
    rounding = Context(prec=max(SIGNIFICANT_DIGITS, n_whole + 6))
    rounded = rounding.divide(Decimal(number.numerator), Decimal(number.denominator))
    if rounded.adjusted() < -SIGNIFICANT_DIGITS:
        return str(rounded.normalize(rounding)).replace("E", "e")
    text = f"{rounded:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _parse(expression: str) -> ast.expr:
    expression = expression.strip()
    if not expression:
        raise _RefusedError("nothing to compute")
    if len(expression) > MAX_CHARS:
        raise _RefusedError(f"the expression is longer than {MAX_CHARS} characters")
    if not _ALLOWED.fullmatch(expression):
        raise _RefusedError("only numbers and + - * / // % ** ( ) are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(expression, mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _RefusedError("this is not an arithmetic expression") from None


def _evaluate(node: ast.expr, source: str, depth: int) -> Fraction:
    if depth > MAX_DEPTH:
        raise _RefusedError(f"nested deeper than {MAX_DEPTH} levels")
    match node:
        case ast.Constant():
            value = _parse_literal(ast.get_source_segment(source, node) or "")
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=inner):
            value = _evaluate(inner, source, depth + 1)
            value = -value if isinstance(sign, ast.USub) else value
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            value = _OPERATORS[type(operator)](_evaluate(left, source, depth + 1), _evaluate(right, source, depth + 1))
        case _:
            raise _RefusedError("only numbers and + - * / // % ** ( ) are allowed")
    return _check_size(value)


def _check_size(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
        raise _RefusedError("an intermediate result is too large")
    return value


def _parse_literal(text: str) -> Fraction:
    match = _LITERAL.fullmatch(text)
    if match is None:
        raise _RefusedError("this is not an arithmetic expression")
    if match[1] and abs(int(match[1])) > MAX_EXPONENT // 2:
        raise _RefusedError("an intermediate result is too large")
    return Fraction(text)


def _raise_to_power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 1:
        n_bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) > MAX_EXPONENT or (n_bits > 1 and n_bits * abs(exponent) > 2 * MAX_BITS):
            raise _RefusedError("the power is too large")
        return base ** int(exponent)
    if base < 0:
        raise _RefusedError("a fractional power of a negative number is not a real number")
    try:
        power = float(base) ** float(exponent)
        if power == 0 != base:
            raise _RefusedError("the power is too small")
        return Fraction(f"{power:.15g}")  # a float represents 15 digits reliably
    except (OverflowError, ValueError):
        raise _RefusedError("the power is too large") from None


def _floor_divide(left: Fraction, right: Fraction) -> Fraction:
    return Fraction(left // right)


_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: _floor_divide,
    ast.Mod: lambda left, right: left % right,
    ast.Pow: _raise_to_power,
}

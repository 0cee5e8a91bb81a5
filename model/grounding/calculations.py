"""List the calls of tools that calculate which a message allows: every number in an argument is one that the user typed.

In: a message. Out: candidate expressions in the forms that models are trained on (`12 * 7`, `15% of 80`, `80 + 15%`, `2 ^ 10`,
`sqrt(144)`, `5!`, `87 % 9`), likely ones first, so that a call can be chosen and no digit is miscopied. Words for operators become
operators (`divided by`, `to the power of`, `square root of`, `a 20% tip to 65`); the longest run of the message that is an
expression comes first. Two numbers in a story (`3 coffees at 2.80 each`) give one candidate per operator. Needs the standard
library only. Time: O(characters); a longer message is cut at `MAX_CHARS`.

Does not cover: stories with several steps; numbers in words above twelve.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from model.grounding.measures import list_conversions, list_date_expressions, remove_dates
from model.tokenizer.chat import ToolCall

MAX_CHARS = 1_000
MAX_CANDIDATES = 8
_N = r"(-?\d{1,40}(?:\.\d{1,40})?(?:e[+-]?\d{1,2})?(?![\w])|-?\d{1,40}(?:\.\d{1,40})?(?=[x!%²³^]))"
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)
_PERCENT = r"\s*(?:%|percent\b|per cent\b|prozent\b|pour cent\b|por ciento\b)"

Rewrite = tuple[re.Pattern[str], "str | Callable[[re.Match[str]], str]"]


def _rewrite(pattern: str, replacement: str) -> Rewrite:
    return re.compile(pattern.replace("{N}", _N).replace("{%}", _PERCENT), re.IGNORECASE | re.ASCII), replacement


# In this order: phrases around their numbers, then single operators.
_REWRITES: tuple[Rewrite, ...] = (
    _rewrite(r"(?<=\d)\s*[·⋅×](?=\s*\d)", " * "),
    _rewrite(r"÷", " / "),
    _rewrite(r"[−–](?=\s*\d)", "-"),
    _rewrite(r"²|\bsquared\b", " ^ 2 "),
    _rewrite(r"³|\bcubed\b", " ^ 3 "),
    _rewrite(r"√|\bsqrt\s*(?:of\b)?|\b(?:the )?square root (?:of|from)\b|\bthe root of\b", " sqrt "),
    _rewrite(r"\bcbrt\s*(?:of\b)?|\b(?:the )?(?:cube|cubic|third) root of\b", " cbrt "),
    _rewrite(r"\bthe square of {N}", r" \1 ^ 2 "),
    _rewrite(r"\bthe cube of {N}", r" \1 ^ 3 "),
    _rewrite(r"\bto the (?:power of |power )?(\d+)(?:st|nd|rd|th)(?: power)?\b", r" ^ \1 "),
    _rewrite(r"\bto the second power\b", " ^ 2 "),
    _rewrite(r"\bto the third power\b", " ^ 3 "),
    _rewrite(r"\bto the (?:power (?:of )?)?(?=-?[\d.])|\braised to (?:the (?:power (?:of )?)?)?(?=-?[\d.])", " ^ "),
    _rewrite(r"\bfactorial of {N}", r" \1! "),
    _rewrite(r"{N} factorial\b", r" \1! "),
    _rewrite(r"\bremainder (?:of|when|if) {N} (?:is )?(?:divided )?by {N}", r" \1 % \2 "),
    _rewrite(r"\bsum of {N} and {N}", r" \1 + \2 "),
    _rewrite(r"\bdifference (?:of|between) {N} and {N}", r" \1 - \2 "),
    _rewrite(r"\bproduct of {N} and {N}", r" \1 * \2 "),
    _rewrite(r"\bquotient of {N} and {N}", r" \1 / \2 "),
    _rewrite(r"\b(?:add|adding|with|plus) (?:an? )?{N}{%}(?: \w+)? (?:to|on(?: top of)?) {N}", r" \2 + \1% "),
    _rewrite(r"{N}{%} (?:more than|on top of) {N}", r" \2 + \1% "),
    _rewrite(r"{N}{%} (?:off|less than|discount on)(?: of)? {N}", r" \2 - \1% "),
    _rewrite(r"{N} (?:with|at) (?:an? )?{N}{%} (?:off|discount)\b", r" \1 - \2% "),
    _rewrite(r"{N} with {N}{%} added\b", r" \1 + \2% "),
    _rewrite(r"\bsubtract {N} from {N}", r" \2 - \1 "),
    _rewrite(r"\badd {N} (?:and|to) {N}", r" \1 + \2 "),
    _rewrite(r"\b(?:multiply) {N} (?:by|with|and) {N}", r" \1 * \2 "),
    _rewrite(r"\b(?:divide) {N} by {N}", r" \1 / \2 "),
    _rewrite(r"(?<=\d){%}", "% "),
    _rewrite(r"\bmod(?:ulo)?\b", " %% "),  # with operands: never a percentage
    _rewrite(r"\bplus\b|\badded to\b|\bincreased by\b|\bund(?=\s+\d)|\bmás\b|\bpiù\b", " + "),
    _rewrite(r"\bminus\b|\bless\b|\breduced by\b|\bdecreased by\b|\bmoins\b|\bmenos\b|\bmeno\b", " - "),
    _rewrite(
        r"\btimes\b|\bmultiplied (?:by|with)\b|\bmal\b|\bfois\b|\bpor(?=\s+\d)|\bper(?=\s+\d)|(?<=\d)\s*x\s*(?=\d)",
        " * ",
    ),
    _rewrite(r"\bdivided by\b|\bover(?=\s+\d)|\bgeteilt durch\b|\bdivisé par\b|\bentre(?=\s+\d)|\bdiviso\b", " / "),
)
_RANGE = re.compile(
    r"\b(?:between|from)\s+\d[\d.]*\s+(?:and|to|through)\s+\d", re.IGNORECASE
)  # a random number between 1 and 6
_BINARY = frozenset(("+", "-", "*", "/", "//", "%", "%%", "^", "**"))
_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?|\.\d+)(?P<percent>\s*%(?!%)(?=\s*(?:$|[-+*/^)%,;:?!.=]|of\b|[A-Za-z])))?"
    r"|(?P<name>sqrt|cbrt)\b|(?P<of>of\b)|(?P<sign>\*\*|//|%%|[-+*/%^()!])",
    re.ASCII,
)


class _Run(NamedTuple):
    """Tokens that form an expression, and where they are in the translated text."""

    tokens: list[str]
    start: int
    end: int


def list_calculations(message: str) -> list[ToolCall]:
    """Return candidate calls of the tools that calculate: with dates those of calculate_date first, then conversions, then
    expressions, each likely ones first."""
    tools = {
        "calculate_date": list_date_expressions(message),
        "convert_units": list_conversions(message),
        "calculator": list_expressions(remove_dates(message)),
    }
    return [ToolCall.of(name, argument) for name, arguments in tools.items() for argument in arguments]


def list_expressions(message: str) -> list[str]:
    """Return candidate arguments of the calculator, likely ones first."""
    text = _translate(message[:MAX_CHARS])
    candidates = [_join(run.tokens) for run in _rank_runs(text)]
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w%]|\.\d)", text, re.ASCII)
    if not candidates and len(numbers) == 2 and not _RANGE.search(text):
        first, second = numbers
        candidates = [f"{first} {operator} {second}" for operator in "*+-/"]
    return list(dict.fromkeys(candidates))[:MAX_CANDIDATES]


def split_expression(message: str) -> tuple[str, str]:
    """Return the likeliest expression in a message and the rest of the message; two empty texts if it has none."""
    text = _translate(message[:MAX_CHARS])
    runs = _rank_runs(text)
    return (_join(runs[0].tokens), f"{text[: runs[0].start]} {text[runs[0].end :]}") if runs else ("", "")


def _rank_runs(text: str) -> list[_Run]:
    """Return the expressions with an operator, the longest first."""
    runs = [run for run in _find_runs(text) if _is_calculation(run.tokens)]
    return sorted(runs, key=lambda run: -len(run.tokens))


def _translate(text: str) -> str:
    """Return the text with operators for their words and digits for number words."""
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    for value, word in enumerate(_WORDS):
        if value != 1:  # "one" is seldom a number
            text = re.sub(rf"\b{word}\b", str(value), text, flags=re.IGNORECASE)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text


def _find_runs(text: str) -> list[_Run]:
    """Return the longest runs of tokens that form expressions."""
    runs: list[_Run] = []
    tokens: list[str] = []
    spans: list[tuple[int, int]] = []
    position = 0
    while position <= len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            if position == len(text) or not text[position].isspace():
                runs += _split_run(tokens, spans)
                tokens, spans = [], []
            position += 1
            continue
        tokens.append(match["number"] + "%" if match["percent"] else match["number"] or match["name"] or match[0])
        spans.append(match.span())
        position = match.end()
    return runs


def _split_run(tokens: list[str], spans: list[tuple[int, int]]) -> Iterator[_Run]:
    """Yield the valid expressions in a run of tokens: from each start the longest one, none inside another."""
    start = 0
    while start < len(tokens):
        length = _measure_expression(tokens[start:])
        if length:
            stop = start + length
            yield _Run(tokens[start:stop], spans[start][0], spans[stop - 1][1])
        start += max(length, 1)


def _measure_expression(tokens: list[str]) -> int:
    """Return how many of the first tokens are the longest expression: operands and operators alternate, parentheses match."""
    length, depth, needs_operand = 0, 0, True
    for number, token in enumerate(tokens):
        if needs_operand:
            if token == "(":
                depth += 1
            elif token[0].isdigit() or token[0] == ".":
                needs_operand = False
            elif token not in ("sqrt", "cbrt") and (token != "-" or (number and tokens[number - 1] == "-")):
                break
        elif token == ")":
            depth -= 1
        elif token in _BINARY or (token == "of" and tokens[number - 1][-1] == "%"):
            needs_operand = True
        elif token != "!":
            break
        if depth < 0:
            break
        if depth == 0 and not needs_operand:
            length = number + 1
    return length


def _is_calculation(tokens: list[str]) -> bool:
    return len(tokens) > 1 and not (len(tokens) == 2 and tokens[0] == "-")


def _join(tokens: list[str]) -> str:
    """Return the trained form: single spaces around operators, none inside parentheses, calls around roots."""
    text = ""
    close_after = -1
    for number, token in enumerate(tokens):
        token = {"**": "^", "%%": "%"}.get(token, token)
        is_prefix = token == "-" and (
            number == 0 or tokens[number - 1] in "+-*/%%^(" or tokens[number - 1] in ("sqrt", "cbrt")
        )
        if token in ("sqrt", "cbrt"):
            text += token
            if tokens[number + 1] != "(":
                text += "("
                close_after = number + 1 + (tokens[number + 1] == "-")
        elif token in ("(", ")", "!") or token[0].isdigit() or token[0] == "." or is_prefix:
            text += token
        else:
            text += f" {token} "
        if number == close_after:
            text += ")"
    return text

"""Find the fields of a docstring: parameters, return values, exceptions, examples, notes, and so on.

In: a docstring, cleaned of its indentation. Out: consecutive parts that cover it: the description, named "", then a part for
each field, under one name whatever the convention: headings underlined as numpydoc has them, Google's (`Args:` and an indented
block), Sphinx's fields (`:param axis: …`), and examples that no heading announces (`>>>`). What follows a field and is no part
of it is named `details`; another underlined heading gives a part under its own name. Time: O(characters).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

DETAILS = "details"
_NAMES = {
    "parameters": "parameters params args arguments parameter",
    "other parameters": "other_parameters keyword_arguments keyword_args keyword_parameters additional_args",
    "returns": "returns return outputs output",
    "yields": "yields yield",
    "raises": "raises raise exceptions throws",
    "warns": "warns",
    "attributes": "attributes attribute variables",
    "examples": "examples example usage example_usage typical_usage usage_example sample_usage",
    "notes": "notes note",
    DETAILS: "explanation description details",
    "warnings": "warnings warning",
    "see also": "see_also seealso",
    "references": "references reference",
    "methods": "methods",
    "shape": "shape",
}
FACETS = {
    word.replace("_", " "): name for name, words in _NAMES.items() for word in words.split()
}  # heading → name of the part
SPHINX_FIELDS = {
    **dict.fromkeys(("param", "parameter", "arg", "argument", "key", "keyword", "kwarg", "type"), "parameters"),
    **dict.fromkeys(("return", "returns", "rtype"), "returns"),
    **dict.fromkeys(("yield", "yields", "ytype"), "yields"),
    **dict.fromkeys(("raise", "raises", "except", "exception", "throws"), "raises"),
    **dict.fromkeys(("ivar", "var", "cvar", "vartype"), "attributes"),
}
_LINE = re.compile(r"([ \t]*)([^\n]*)(?:\n|\Z)")
_UNDERLINE = re.compile(r"([-=~^*#\"'.`_+])\1{2,}\s*")
_GOOGLE = re.compile(r"([A-Z][A-Za-z ]{2,24}?)\s?::?\s*")
_INLINE = re.compile(r"(Returns?|Yields?|Raises?|Notes?|Examples?|Warning): +\S")
_FIELD = re.compile(rf"[:@]({'|'.join(SPHINX_FIELDS)})\b[^:\n]*:")
_TITLE = re.compile(r"[`*:]*[A-Za-z][\w ,.;:'\"`/()&*+-]*")
MAX_HEADING_CHARS = 60


class DocPart(NamedTuple):
    """One part of a docstring: name of the facet, the heading as it is written, and its range."""

    name: str
    heading: str
    start: int
    end: int


class _Line(NamedTuple):
    start: int
    indent: int
    text: str  # without indentation


def find_parts(text: str, start: int = 0) -> list[DocPart]:
    """Return the parts of `text` from `start` on, in order; they cover it."""
    starts = list(_find_starts(_split_lines(text, start), start))
    ends = [part.start for part in starts[1:]] + [len(text)]
    return [part._replace(end=end) for part, end in zip(starts, ends, strict=True)]


def _split_lines(text: str, start: int) -> list[_Line]:
    lines = [_Line(match.start(), len(match[1]), match[2].rstrip()) for match in _LINE.finditer(text, start)]
    return [*lines, _Line(len(text), 0, ""), _Line(len(text), 0, "")]


def _find_starts(lines: list[_Line], start: int) -> Iterator[DocPart]:
    """Yield where each part starts, with its name and heading."""
    name, block, is_first = "", -1, True  # block: the indentation that ends the current part (-1: a heading ends it)
    yield DocPart("", "", start, start)
    for number, line in enumerate(lines[:-2]):
        if not line.text:
            continue
        is_after_blank = number == 0 or not lines[number - 1].text
        heading = _read_heading(lines, number)
        field = _FIELD.match(line.text)
        if heading:
            title, block = heading
            name = FACETS.get(title.lower(), title.lower())
            yield DocPart(name, title, line.start, 0)
        elif field:
            if (new := SPHINX_FIELDS[field[1]]) != name or block < 0:
                name = new
                yield DocPart(name, "", line.start, 0)
            block = line.indent
        elif line.text.startswith(">>>") and name in ("", DETAILS) and (is_after_blank or not is_first):
            name, block = "examples", -2  # ends at prose
            yield DocPart(name, "", line.start, 0)
        elif _ends(block, line, is_after_blank):
            name, block = DETAILS, -1
            yield DocPart(name, "", line.start, 0)
        is_first = False


def _ends(block: int, line: _Line, is_after_blank: bool) -> bool:
    """Return whether a line without a heading ends the current part."""
    if block == -2:
        return is_after_blank and line.indent == 0 and not line.text.startswith((">>>", "..."))
    return block >= 0 and line.indent <= block


def _read_heading(lines: list[_Line], number: int) -> tuple[str, int] | None:
    """Return a heading and the indentation at which its part ends (-1: at the next heading)."""
    line, below = lines[number], lines[number + 1]
    if line.indent or len(line.text) > MAX_HEADING_CHARS or _UNDERLINE.fullmatch(line.text):
        return None
    is_underlined = below.indent == 0 and _UNDERLINE.fullmatch(below.text) and 2 * len(below.text) >= len(line.text)
    if is_underlined and _TITLE.fullmatch(line.text):
        return line.text.rstrip(":"), -1
    google = _GOOGLE.fullmatch(line.text)
    if google and google[1].lower() in FACETS:
        following = below if below.text else lines[number + 2]
        return (google[1], 0) if following.indent > 0 else None
    inline = _INLINE.match(line.text)
    if inline and (number == 0 or not lines[number - 1].text):
        return inline[1], 0
    return None

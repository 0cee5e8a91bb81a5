"""List the entries of a field: one parameter, return value, exception or attribute each, with its names.

In: the text of a facet as docstrings have it: numpydoc (`axis : int` and an indented description), Google (`axis (int): …` in an
indented block), Sphinx (`:param axis: …`). Out: entries in order; none where the field is prose. Time: O(characters).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from model.retrieval.cutting.docstring_fields import SPHINX_FIELDS

_UNDERLINED = re.compile(r"[^\n]*\n([-=~^*#\"'.`_+])\1{2,}[ \t]*(?:\n|\Z)")
_HEADING = re.compile(r"[A-Z][A-Za-z ]{2,24}?[ ]?::?[ \t]*\n")
_LINE = re.compile(r"([ \t]*)([^\n]*)(?:\n|\Z)")
_NUMPY = re.compile(r"(?P<names>[^\s:][^:]*?)(?:\s*:\s*(?P<type>.*))?")
_GOOGLE = re.compile(
    r"(?:[-*•] +)?(?P<names>[`*\\]*[\w.]+[`]*(?:\s*[,/]\s*[`*\\]*[\w.]+[`]*)*)(?P<type>\s*\([^\n]*?\))?"
    r"\s*(?::|--)(?=\s|$)\s*(?P<rest>.*)"
)
_SPHINX = re.compile(
    rf"[:@](?P<field>{'|'.join(SPHINX_FIELDS)})(?:[ ]+(?P<type>[^:\n]*?))??(?:[ ]+(?P<names>[\\*\w.]+))?[ ]*:[ ]*(?P<rest>.*)"
)
_TYPES = ("type", "rtype", "vartype", "ytype")  # they repeat a name
_NAME = re.compile(r"[A-Za-z_][\w.]*")


class FieldEntry(NamedTuple):
    """One entry: its names, its first line (`axis : int`), and its description on one line."""

    names: tuple[str, ...]
    head: str
    description: str


def list_entries(text: str) -> list[FieldEntry]:
    """Return the entries of a facet; none if its text has another form."""
    if match := _UNDERLINED.match(text):
        return list(_read_numpydoc(text[match.end() :]))
    if re.match(r"\s*[:@]\w", text):
        return list(_read_sphinx(text))
    match = _HEADING.match(text)
    return list(_read_google(text[match.end() if match else 0 :]))


def _split(text: str) -> Iterator[tuple[int, str]]:
    """Yield indentation and text of each line that is not blank."""
    for match in _LINE.finditer(text):
        if match[2].strip():
            yield len(match[1].expandtabs()), match[2].rstrip()


def _read_numpydoc(text: str) -> Iterator[FieldEntry]:
    lines = list(_split(text))
    base = min((indent for indent, _ in lines), default=0)
    blocks = _group(lines, lambda indent, line: indent == base)
    if len(lines) > 1 and len(blocks) == len(lines):  # a paragraph, or a list of names without descriptions
        return
    for head, *body in blocks:
        match = _NUMPY.fullmatch(head)
        if match:
            yield FieldEntry(_find_names(match["names"]), _join_type(match["names"], match["type"]), _flatten(body))


def _join_type(names: str, type_: str | None) -> str:
    return " ".join((f"{names}: {type_}" if type_ else names).split())


def _read_google(text: str) -> Iterator[FieldEntry]:
    lines = list(_split(text))
    if not lines or not _GOOGLE.match(lines[0][1]):
        return
    base = lines[0][0]
    for head, *body in _group(lines, lambda indent, line: indent <= base and bool(_GOOGLE.match(line))):
        match = _GOOGLE.match(head)
        assert match is not None
        yield FieldEntry(
            _find_names(match["names"]),
            " ".join(f"{match['names']}{match['type'] or ''}:".split()),
            _flatten([match["rest"], *body]),
        )


def _read_sphinx(text: str) -> Iterator[FieldEntry]:
    for head, *body in _group(list(_split(text)), lambda _, line: bool(_SPHINX.match(line))):
        match = _SPHINX.match(head)
        if match and match["field"] not in _TYPES:
            names = match["names"] or match["type"] or ""
            yield FieldEntry(
                _find_names(names), f"{names.replace(chr(92), '')}:" if names else "", _flatten([match["rest"], *body])
            )


def _group(lines: list[tuple[int, str]], starts: Callable[[int, str], bool]) -> list[list[str]]:
    """Return runs of lines, each from one that starts an entry to before the next one."""
    blocks: list[list[str]] = []
    for indent, line in lines:
        if starts(indent, line):
            blocks.append([])
        if blocks:
            blocks[-1].append(line)
    return blocks


def _flatten(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


def _find_names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_NAME.findall(text)))

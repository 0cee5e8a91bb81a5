"""The value of a text expression, worked out from the syntax tree without running anything.

In: an `ast` expression and the module's names with a known value. Out: the text, or None where it can't be told. A part
that is not known (a note imported from elsewhere, say) is left out of a text of which other parts are. Covers literals,
`+`, `%`, `.format`, f-strings of plain names, `dedent`, `cleandoc`, and the tables of argument descriptions that torch's
documentation modules fill their texts from. Never calls or imports what it reads.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import TypeAlias

Value: TypeAlias = "str | dict[str, Value]"
Names: TypeAlias = "dict[str, Value]"

MAX_TEXT = 1_000_000  # characters: a format string can't be made to grow without bound
PERCENT = re.compile(r"%\((\w+)\)s")
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w*)\}")


def static_text(node: ast.expr | None, names: Names) -> str | None:
    """The text that `node` stands for, or None."""
    value = static_value(node, names)
    return value if isinstance(value, str) else None


def static_value(node: ast.expr | None, names: Names) -> Value | None:
    """A text or a table of texts, or None."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Name(id=name):
            return names.get(name)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([static_text(left, names), static_text(right, names)])
        case ast.BinOp(left=left, op=ast.Mod()):
            template = static_text(left, names)
            return None if template is None else PERCENT.sub(lambda match: _named(names, match[1]), template)
        case ast.JoinedStr(values=parts):
            return _joined([static_text(part, names) for part in parts])
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return static_text(value, names)
        case ast.Dict(keys=keys, values=values):
            return _table(keys, values, names)
        case ast.Call():
            return _called(node, names)
        case _:
            return None


def _joined(parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return "".join(known) if known and sum(map(len, known)) <= MAX_TEXT else None


def _named(names: Names, name: str) -> str:
    value = names.get(name)
    return value if isinstance(value, str) else ""


def _table(keys: list[ast.expr | None], values: list[ast.expr], names: Names) -> Names:
    table: Names = {}
    for key, value in zip(keys, values, strict=True):
        found = static_value(value, names)
        if key is None and isinstance(found, dict):
            table.update(found)
        elif isinstance(key, ast.Constant) and isinstance(key.value, str) and found is not None:
            table[key.value] = found
    return table


def _called(node: ast.Call, names: Names) -> Value | None:
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr == "format":
        template = static_text(function.value, names)
        return None if template is None else _formatted(template, _arguments(node, names))
    called = (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
    values = [static_value(argument, names) for argument in node.args]
    if called == "merge_dicts":
        merged: Names = {}
        for value in values:
            merged.update(value if isinstance(value, dict) else {})
        return merged
    text = values[0] if values else None
    if not isinstance(text, str):
        return None
    if called == "parse_kwargs":
        return argument_table(text)
    return {"dedent": textwrap.dedent, "cleandoc": inspect.cleandoc}.get(called, _unknown)(text)


def _unknown(_: str) -> None:
    return None


def _arguments(node: ast.Call, names: Names) -> Names:
    """What a `.format(…)` call fills in: by position, by name, and from tables given as `**table`."""
    filled: Names = {}
    for position, argument in enumerate(node.args):
        value = static_value(argument, names)
        if value is not None:
            filled[str(position)] = value
    for keyword in node.keywords:
        value = static_value(keyword.value, names)
        if keyword.arg is None and isinstance(value, dict):
            filled.update(value)
        elif keyword.arg is not None and value is not None:
            filled[keyword.arg] = value
    return filled


def _formatted(template: str, values: Mapping[str, Value]) -> str | None:
    """`str.format` for plain `{name}` fields; one that is not known is left out."""
    position = -1
    length = len(template)

    def fill(match: re.Match[str]) -> str:
        nonlocal position, length
        if match[0] in ("{{", "}}"):
            return match[0][0]
        position += not match[1]
        value = values.get(match[1] or str(position), "")
        length += len(value)
        return value if isinstance(value, str) and length <= MAX_TEXT else ""

    return PLACEHOLDER.sub(fill, template)


def argument_table(text: str) -> Names:
    """Argument descriptions, one to four spaces of indentation, keyed by the argument's name."""
    table: Names = {}
    for section in re.split(r"\n {4}(?!\s)", text):
        if section.strip():
            table[section.split(maxsplit=1)[0]] = section.strip()
    return table

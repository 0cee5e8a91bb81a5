"""Evaluate text expressions of a module from its syntax tree, without running anything.

In: an `ast` expression and the module's names with a known value. Out: the text, or None where it cannot be determined; and the
documentation that a call attaches to a compiled function, as numpy, scipy and torch do. An unknown part (such as a note imported
from elsewhere) is left out of a text whose other parts are known. Covers literals, `+`, `%`, `.format`, f-strings of plain names,
`dedent`, `cleandoc`, and the tables of argument descriptions that torch's documentation modules fill their texts from.
Calls that attach documentation are recognized by name: `add_newdoc(module, name, doc)`, `add_newdoc(name, doc)`,
`add_docstr(module.name, doc)` and four shorthands. Never calls or imports what it reads.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

Value: TypeAlias = "str | dict[str, Value]"
Names: TypeAlias = "dict[str, Value]"

MAX_TEXT = 1_000_000  # characters: bounds what a format string can expand to
PERCENT = re.compile(r"%\((\w+)\)s")
PLACEHOLDER = re.compile(r"\{\{|\}\}|\{(\w*)\}")


class AttachedDoc(NamedTuple):
    """Documentation attached by a call. `module` is a guess where the call gives a dotted path: only the caller knows which of
    its parts are modules."""

    module: str
    qualname: str
    signature: str
    doc: str
    line: int


def evaluate_text(node: ast.expr | None, names: Names) -> str | None:
    """Return the text that `node` evaluates to, or None."""
    value = evaluate_value(node, names)
    return value if isinstance(value, str) else None


def evaluate_value(node: ast.expr | None, names: Names) -> Value | None:
    """Return the text or the table of texts that `node` evaluates to, or None."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Name(id=name):
            return names.get(name)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _concatenate([evaluate_text(left, names), evaluate_text(right, names)])
        case ast.BinOp(left=left, op=ast.Mod()):
            template = evaluate_text(left, names)
            return None if template is None else PERCENT.sub(lambda match: _look_up(names, match[1]), template)
        case ast.JoinedStr(values=parts):
            return _concatenate([evaluate_text(part, names) for part in parts])
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return evaluate_text(value, names)
        case ast.Dict(keys=keys, values=values):
            return _evaluate_table(keys, values, names)
        case ast.Call():
            return _evaluate_call(node, names)
        case _:
            return None


def get_called_name(node: ast.expr) -> str:
    """Return the last part of the called function's name without leading underscores; empty if `node` is not a call."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name.lstrip("_")
        case _:
            return ""


def find_attached_docs(node: ast.Call, module: str, names: Names) -> Iterator[AttachedDoc]:
    """Yield what a call in `module` documents; nothing if it is another kind of call or its text cannot be evaluated."""
    arguments = [evaluate_text(argument, names) for argument in node.args]
    match get_called_name(node), arguments:
        case "add_newdoc", [str(target), str(name), None]:
            yield from _find_attribute_docs(target, name, node.args[2], names)
        case "add_newdoc", [str(target), str(name), str(doc)]:
            yield AttachedDoc(target, name, "", doc, node.lineno)
        case "add_newdoc", [str(name), str(doc)]:
            yield AttachedDoc(module.rpartition(".")[0], name, "", doc, node.lineno)
        case "add_newdoc_for_scalar_type", [str(name), str(signature), str(doc)]:
            yield AttachedDoc("numpy._core.numerictypes", name, signature, doc, node.lineno)
        case "array_method_doc", [str(name), str(parameters), str(doc)]:
            yield AttachedDoc("numpy._core.multiarray", f"ndarray.{name}", f"({parameters})", doc, node.lineno)
        case "add_docstr_all", [str(name), str(doc)] if module == "torch._tensor_docs":
            yield AttachedDoc("torch", f"Tensor.{name}", "", doc, node.lineno)
        case "add_docstr", [_, str(doc)]:
            dotted = ast.unparse(node.args[0])
            if re.fullmatch(r"\w+(\.\w+)+", dotted):
                yield AttachedDoc(dotted.rpartition(".")[0], dotted.rpartition(".")[2], "", doc, node.lineno)
        case _:
            return


def _find_attribute_docs(module: str, name: str, argument: ast.expr, names: Names) -> Iterator[AttachedDoc]:
    """Yield the docs in numpy's form for attributes: a pair (attribute, text), or a list of such pairs."""
    for pair in argument.elts if isinstance(argument, ast.List) else [argument]:
        if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
            attribute, doc = (evaluate_text(part, names) for part in pair.elts)
            if attribute and doc:
                yield AttachedDoc(module, f"{name}.{attribute}", "", doc, pair.lineno)


def _concatenate(parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return "".join(known) if known and sum(map(len, known)) <= MAX_TEXT else None


def _look_up(names: Names, name: str) -> str:
    value = names.get(name)
    return value if isinstance(value, str) else ""


def _evaluate_table(keys: list[ast.expr | None], values: list[ast.expr], names: Names) -> Names:
    table: Names = {}
    for key, node in zip(keys, values, strict=True):
        value = evaluate_value(node, names)
        if key is None and isinstance(value, dict):
            table.update(value)
        elif isinstance(key, ast.Constant) and isinstance(key.value, str) and value is not None:
            table[key.value] = value
    return table


def _evaluate_call(node: ast.Call, names: Names) -> Value | None:
    function = node.func
    if isinstance(function, ast.Attribute) and function.attr == "format":
        template = evaluate_text(function.value, names)
        return None if template is None else _format(template, _evaluate_arguments(node, names))
    values = [evaluate_value(argument, names) for argument in node.args]
    text = values[0] if values else None
    match get_called_name(node), text:
        case "merge_dicts", _:
            return {key: text for value in values if isinstance(value, dict) for key, text in value.items()}
        case "parse_kwargs", str():
            return parse_argument_table(text)
        case "dedent", str():
            return textwrap.dedent(text)
        case "cleandoc", str():
            return inspect.cleandoc(text)
        case _:
            return None


def _evaluate_arguments(node: ast.Call, names: Names) -> Names:
    """Return the arguments of a `.format(…)` call: by position, by name, and from tables passed as `**table`."""
    arguments: Names = {}
    for position, argument in enumerate(node.args):
        value = evaluate_value(argument, names)
        if value is not None:
            arguments[str(position)] = value
    for keyword in node.keywords:
        value = evaluate_value(keyword.value, names)
        if keyword.arg is None and isinstance(value, dict):
            arguments.update(value)
        elif keyword.arg is not None and value is not None:
            arguments[keyword.arg] = value
    return arguments


def _format(template: str, values: Mapping[str, Value]) -> str | None:
    """Apply `str.format` to plain `{name}` fields; unknown ones are left out."""
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


def parse_argument_table(text: str) -> Names:
    """Parse argument descriptions, indented by four spaces, into a table keyed by argument name."""
    table: Names = {}
    for section in re.split(r"\n {4}(?!\s)", text):
        if section.strip():
            table[section.split(maxsplit=1)[0]] = section.strip()
    return table

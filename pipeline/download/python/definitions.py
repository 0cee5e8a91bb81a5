"""Read from a syntax tree what inherits, renames or copies documentation: bases of classes, aliases, imported modules.

In: the syntax tree of a module. Out: `Definitions`, dotted names as the source writes them; `inherited_names.py` finds out what
they refer to. Covers `class D(B)`, `randint = _inst.randint`, `agg = aggregate` in a class body, accessors such as
`str = CachedAccessor("str", StringMethods)`, `import a.b as c`, and decorators that copy a docstring. Does not cover names that
are computed. Time: O(n) in the number of statements; function bodies are not walked.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.download.python.symbol_signatures import get_decorator_names

COPIES_DOC = re.compile(r"copy_?doc|copydoc|inherit_?doc|^wraps$")
ACCESSOR = re.compile(r"^(Cached)?Accessor$")  # pandas: a class whose instance is an attribute


@dataclass
class Definitions:
    """What a module says about names whose documentation is elsewhere; keys are qualified names in the module."""

    bases: dict[str, list[str]] = field(default_factory=dict[str, list[str]])  # class → its bases
    aliases: dict[str, str] = field(default_factory=dict[str, str])  # name → what it is bound to
    accessors: dict[str, str] = field(default_factory=dict[str, str])  # attribute → the class whose instance it is
    instances: dict[str, str] = field(default_factory=dict[str, str])  # name → the class that it is an instance of
    modules: dict[str, str] = field(default_factory=dict[str, str])  # name → the module that `import` binds to it
    copies: dict[str, str] = field(default_factory=dict[str, str])  # function → what its docstring is copied from


def iterate_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module or class body, including those under `if`, `try` and `with`."""
    for statement in body:
        yield statement
        match statement:
            case ast.If(body=first, orelse=other):
                yield from iterate_statements([*first, *other])
            case ast.Try(body=first, handlers=handlers, orelse=other, finalbody=last):
                rest = [inner for handler in handlers for inner in handler.body]
                yield from iterate_statements([*first, *rest, *other, *last])
            case ast.With(body=first):
                yield from iterate_statements(first)
            case _:
                pass


def read_definitions(tree: ast.Module) -> Definitions:
    """Return the definitions of a module."""
    definitions = Definitions()
    _read_body(tree.body, "", definitions)
    return definitions


def _read_body(body: list[ast.stmt], owner: str, into: Definitions) -> None:
    for statement in iterate_statements(body):
        match statement:
            case ast.ClassDef(name=name):
                qualname = f"{owner}{name}"
                into.bases.setdefault(qualname, [dotted for base in statement.bases if (dotted := _name_base(base))])
                _read_body(statement.body, f"{qualname}.", into)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not name.startswith("_"):
                copied = _find_copied_doc(statement)
                if copied:
                    into.copies.setdefault(f"{owner}{name}", copied)
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                _read_assignment(f"{owner}{name}", value, into)
            case ast.Import(names=names) if not owner:
                for alias in names:
                    first = alias.name.partition(".")[0]
                    into.modules.setdefault(alias.asname or first, alias.name if alias.asname else first)
            case _:
                pass


def _read_assignment(qualname: str, value: ast.expr, into: Definitions) -> None:
    match value:
        case ast.Call(args=[ast.Constant(), ast.Name() | ast.Attribute() as cls]) if ACCESSOR.match(
            _name(value.func).rpartition(".")[2]
        ):
            into.accessors[qualname] = _name(cls)
        case ast.Call(
            func=ast.Name(id="staticmethod" | "classmethod"), args=[ast.Name() | ast.Attribute() as function]
        ):
            into.aliases[qualname] = _name(function)
        case ast.Call(func=function):
            into.instances.setdefault(qualname, _name(function))
        case ast.Name() | ast.Attribute():
            into.aliases[qualname] = _name(value)
        case _:
            pass


def _name(node: ast.expr) -> str:
    """Return a dotted name as it is written; empty if `node` is anything else."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            owner = _name(value)
            return owner and f"{owner}.{name}"
        case _:
            return ""


def _name_base(node: ast.expr) -> str:
    """Return the dotted name of a base class; `Generic[T]` is `Generic`."""
    return _name(node.value if isinstance(node, ast.Subscript) else node)


def _find_copied_doc(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if not node.decorator_list or not any(
        COPIES_DOC.search(name.rpartition(".")[2]) for name in get_decorator_names(node)
    ):
        return ""
    for decorator in node.decorator_list:
        match decorator:
            case ast.Call(func=function, args=[ast.Name() | ast.Attribute() as source, *_]) if COPIES_DOC.search(
                _name(function).rpartition(".")[2]
            ):
                return _name(source)
            case _:
                pass
    return ""

"""The signature of a function or class as one line of text, rendered from the syntax tree.

Annotations and defaults are cut out of the source where they stand on one line (20× faster than `ast.unparse`, and as the
author wrote them). Signatures longer than `MAX_SIGNATURE` characters lose whole parameters: `…, axis=None, ...)`.
"""

from __future__ import annotations

import ast
import re
from typing import TypeAlias

MAX_SIGNATURE = 300
MAX_OPENING = 2_000  # characters of a signature that a docstring opens with
OPENING = re.compile(r"(?:\w+\.)*(\w+)\(")
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class SourceLines:
    """The lines of a file in UTF-8, which is what the columns of a syntax tree count in."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines

    def cut(self, node: ast.expr) -> str:
        """The source of an expression on one line."""
        if isinstance(node, ast.Name):
            return node.id
        if node.lineno == node.end_lineno and node.end_col_offset is not None and not isinstance(node, ast.Tuple):
            return self.lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
        return " ".join(ast.unparse(node).split())


def decorator_names(node: Definition | ast.ClassDef) -> list[str]:
    """Dotted names of the decorators, without their arguments."""
    return [
        name for item in node.decorator_list if (name := _dotted(item.func if isinstance(item, ast.Call) else item))
    ]


def _dotted(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            owner = _dotted(value)
            return f"{owner}.{name}" if owner else name
        case _:
            return ""


def function_signature(
    node: Definition, decorators: list[str], is_method: bool, source: SourceLines
) -> tuple[str, str]:
    """A prefix such as `async ` or `property `, and `(a, b=1) -> int` without `self` or `cls`."""
    short = {name.rpartition(".")[2] for name in decorators}
    returns = f" -> {source.cut(node.returns)}" if node.returns else ""
    if is_method and any(name.endswith("property") for name in short):
        return "property ", returns
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    prefix = next((f"{name} " for name in ("classmethod", "staticmethod") if is_method and name in short), "") + prefix
    has_owner = is_method and "staticmethod" not in short
    return prefix, shortened(parameters(node.args, has_owner, source), returns)


def class_signature(node: ast.ClassDef, body: list[ast.stmt], source: SourceLines) -> str:
    """What the class is called with: `__init__`, else `__new__`, else the fields of a dataclass; else nothing."""
    for maker in ("__init__", "__new__"):
        for part in body:
            if isinstance(part, DEFINITIONS) and part.name == maker and "overload" not in decorator_names(part):
                return shortened(parameters(part.args, True, source), "")
    if any(name.rpartition(".")[2] == "dataclass" for name in decorator_names(node)):
        fields = [part for part in body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
        shown = [source.cut(part.target) + _annotated(part.annotation, part.value, source) for part in fields]
        return shortened([text for text in shown if not text.startswith("_") and "ClassVar" not in text], "")
    return ""


def parameters(args: ast.arguments, has_owner: bool, source: SourceLines) -> list[str]:
    """Each parameter as text, `/` and `*` included, the bound first one left out."""
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(args.defaults)), *args.defaults]
    shown = [_parameter(arg, value, source) for arg, value in zip(positional, defaults, strict=True)]
    if args.posonlyargs:
        shown.insert(len(args.posonlyargs), "/")
    if has_owner and positional:
        shown = shown[2:] if shown[1:2] == ["/"] else shown[1:]
    if args.vararg:
        shown.append("*" + _parameter(args.vararg, None, source))
    elif args.kwonlyargs:
        shown.append("*")
    shown += [_parameter(arg, value, source) for arg, value in zip(args.kwonlyargs, args.kw_defaults, strict=True)]
    return [*shown, "**" + _parameter(args.kwarg, None, source)] if args.kwarg else shown


def _parameter(arg: ast.arg, default: ast.expr | None, source: SourceLines) -> str:
    return arg.arg + _annotated(arg.annotation, default, source)


def _annotated(annotation: ast.expr | None, default: ast.expr | None, source: SourceLines) -> str:
    value = source.cut(default) if default else ""
    if annotation:
        return f": {source.cut(annotation)}" + (f" = {value}" if value else "")
    return f"={value}" if value else ""


def shortened(shown: list[str], returns: str) -> str:
    """`(a, b, c) -> int`, cut after whole parameters to at most about `MAX_SIGNATURE` characters."""
    text = f"({', '.join(shown)}){returns}"
    if len(text) <= MAX_SIGNATURE:
        return text
    returns = returns if len(returns) <= MAX_SIGNATURE // 3 else ""
    room = MAX_SIGNATURE - len(returns) - len("(, ...)")
    kept: list[str] = []
    for part in shown:
        room -= len(part) + 2
        if room < 0:
            break
        kept.append(part)
    ending = ["..."] if len(kept) < len(shown) else []
    return f"({', '.join([*kept, *ending])}){returns}"


def split_signature(doc: str, name: str) -> tuple[str, str]:
    """A docstring that opens with its own signature → that signature and the rest; the rest is empty only if `doc` is.

    Compiled functions do so, since nothing else can tell how they are called, and old habits: `f(x) -> int`, alone on
    its line or lines, maybe several of them, maybe closed by `--`.
    """
    found, rest = "", doc
    while end := _signature_end(rest, name):
        line, _, after = rest[end:].partition("\n")
        returns = line.strip()
        if (returns and not returns.startswith("->")) or not after.strip():
            break
        signature = " ".join(rest[rest.index("(") : end].split())
        signature = signature.replace("( ", "(").replace(", )", ")") + (f" {returns}" if returns else "")
        found, rest = found or signature, after.strip("\n").removeprefix("--\n").strip("\n")
    return found, rest


def _signature_end(doc: str, name: str) -> int:
    """Where `name(…)` ends at the beginning of `doc`; 0 if it does not begin so."""
    opening = OPENING.match(doc)
    if opening is None or opening[1] != name:
        return 0
    depth = 0
    for end in range(opening.end() - 1, min(len(doc), MAX_OPENING)):
        depth += {"(": 1, ")": -1}.get(doc[end], 0)
        if depth == 0:
            return end + 1
    return 0

"""Render the signature of a function or class as one line of text from the syntax tree.

Annotations and defaults are cut out of the source where they are on one line (20× faster than `ast.unparse`, and as the
author wrote them). Signatures longer than `MAX_SIGNATURE` characters lose whole parameters: `…, axis=None, ...)`.
"""

from __future__ import annotations

import ast
import re
from typing import TypeAlias

MAX_SIGNATURE = 300
MAX_OPENING = 2_000  # characters of a signature that a docstring opens with
MAX_RETURN_WORDS = 6  # with the arrow, of what a function returns
RESULT = re.compile(r"^\w+[.,]\s+(?=\S)")  # `-> v, remove specified key …`
OPENING = re.compile(r"(?:\w+\.)*(\w+)\(")
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class SourceLines:
    """The lines of a file in UTF-8, because the columns of a syntax tree are byte offsets."""

    def __init__(self, lines: list[bytes]) -> None:
        self.lines = lines

    def cut(self, node: ast.expr) -> str:
        """Return the source of an expression on one line."""
        if isinstance(node, ast.Name):
            return node.id
        if node.lineno == node.end_lineno and node.end_col_offset is not None and not isinstance(node, ast.Tuple):
            return self.lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()
        return " ".join(ast.unparse(node).split())


def get_decorator_names(node: Definition | ast.ClassDef) -> list[str]:
    """Return the dotted names of the decorators, without their arguments."""
    return [
        name
        for item in node.decorator_list
        if (name := _get_dotted_name(item.func if isinstance(item, ast.Call) else item))
    ]


def _get_dotted_name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            owner = _get_dotted_name(value)
            return f"{owner}.{name}" if owner else name
        case _:
            return ""


def render_function_signature(
    node: Definition, decorators: list[str], is_method: bool, source: SourceLines
) -> tuple[str, str]:
    """Return a prefix such as `async ` or `property `, and `(a, b=1) -> int` without `self` or `cls`."""
    short = {name.rpartition(".")[2] for name in decorators}
    returns = f" -> {source.cut(node.returns)}" if node.returns else ""
    if is_method and any(name.endswith("property") for name in short):
        return "property ", returns
    prefix = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    prefix = next((f"{name} " for name in ("classmethod", "staticmethod") if is_method and name in short), "") + prefix
    has_owner = is_method and "staticmethod" not in short
    return prefix, join_parameters(render_parameters(node.args, has_owner, source), returns)


def render_class_signature(node: ast.ClassDef, body: list[ast.stmt], source: SourceLines) -> str:
    """Return the parameters of `__init__`, else of `__new__`, else the fields of a dataclass; else an empty string."""
    for maker in ("__init__", "__new__"):
        for part in body:
            if isinstance(part, DEFINITIONS) and part.name == maker and "overload" not in get_decorator_names(part):
                return join_parameters(render_parameters(part.args, True, source), "")
    if any(name.rpartition(".")[2] == "dataclass" for name in get_decorator_names(node)):
        fields = [part for part in body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
        rendered = [
            source.cut(part.target) + _render_annotation(part.annotation, part.value, source) for part in fields
        ]
        return join_parameters([text for text in rendered if not text.startswith("_") and "ClassVar" not in text], "")
    return ""


def render_parameters(args: ast.arguments, has_owner: bool, source: SourceLines) -> list[str]:
    """Return each parameter as text, including `/` and `*`, without the bound first one."""
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(args.defaults)), *args.defaults]
    rendered = [_render_parameter(arg, value, source) for arg, value in zip(positional, defaults, strict=True)]
    if args.posonlyargs:
        rendered.insert(len(args.posonlyargs), "/")
    if has_owner and positional:
        rendered = rendered[2:] if rendered[1:2] == ["/"] else rendered[1:]
    if args.vararg:
        rendered.append("*" + _render_parameter(args.vararg, None, source))
    elif args.kwonlyargs:
        rendered.append("*")
    keywords = zip(args.kwonlyargs, args.kw_defaults, strict=True)
    rendered += [_render_parameter(arg, value, source) for arg, value in keywords]
    return [*rendered, "**" + _render_parameter(args.kwarg, None, source)] if args.kwarg else rendered


def _render_parameter(arg: ast.arg, default: ast.expr | None, source: SourceLines) -> str:
    return arg.arg + _render_annotation(arg.annotation, default, source)


def _render_annotation(annotation: ast.expr | None, default: ast.expr | None, source: SourceLines) -> str:
    value = source.cut(default) if default else ""
    if annotation:
        return f": {source.cut(annotation)}" + (f" = {value}" if value else "")
    return f"={value}" if value else ""


def join_parameters(rendered: list[str], returns: str) -> str:
    """Return `(a, b, c) -> int`, cut after whole parameters to at most about `MAX_SIGNATURE` characters."""
    text = f"({', '.join(rendered)}){returns}"
    if len(text) <= MAX_SIGNATURE:
        return text
    returns = returns if len(returns) <= MAX_SIGNATURE // 3 else ""
    room = MAX_SIGNATURE - len(returns) - len("(, ...)")
    kept: list[str] = []
    for part in rendered:
        room -= len(part) + 2
        if room < 0:
            break
        kept.append(part)
    ending = ["..."] if len(kept) < len(rendered) else []
    return f"({', '.join([*kept, *ending])}){returns}"


def split_signature(doc: str, name: str) -> tuple[str, str]:
    """Split a docstring that opens with its own signature into that signature and the rest, which is empty only if `doc` is.

    Docstrings of compiled functions do so, because nothing else gives their signature, and some old ones: `f(x) -> int`, alone
    on its line or lines, possibly closed by `--`. Of several, that with the most parameters counts: `range(start, stop[, step])`.
    What follows the arrow is the summary, not a type, if it is long: `zip(*iterables) --> Yield tuples until …`.
    """
    best, rest = "", doc
    while end := _find_signature_end(rest, name):
        line, _, after = rest[end:].partition("\n")
        returns = line.strip().replace("-->", "->", 1)
        if (returns and not returns.startswith("->")) or not after.strip():
            break
        signature = " ".join(rest[rest.index("(") : end].split()).replace("( ", "(").replace(", )", ")")
        if len(returns.split()) > MAX_RETURN_WORDS:
            summary = RESULT.sub("", returns[2:].strip())
            return (best, rest) if best else (signature, f"{summary[0].upper()}{summary[1:]}\n{after}")
        signature += f" {returns}" if returns else ""
        best = signature if not best or signature.count(",") > best.count(",") else best
        rest = after.strip("\n").removeprefix("--\n").strip("\n")
    return best, rest


def _find_signature_end(doc: str, name: str) -> int:
    """Return the index after `name(…)` at the beginning of `doc`; 0 if `doc` does not begin with it."""
    opening = OPENING.match(doc)
    if opening is None or opening[1] != name:
        return 0
    depth = 0
    for end in range(opening.end() - 1, min(len(doc), MAX_OPENING)):
        depth += {"(": 1, ")": -1}.get(doc[end], 0)
        if depth == 0:
            return end + 1
    return 0

"""Documentation that a package hands to its compiled functions by a call: numpy, scipy and torch do.

In: a call expression of a module and its names with a known value. Out: what it documents. The calls are known by name:
`add_newdoc(module, name, doc)`, `add_newdoc(name, doc)`, `add_docstr(module.name, doc)` and four shorthands.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.download.python.static_text import Names, static_text


class Attached(NamedTuple):
    """`module` is a guess where the call gives a dotted path: the reader knows which of its parts are modules."""

    module: str
    qualname: str
    signature: str
    doc: str
    line: int


def called_name(node: ast.expr) -> str:
    """The last part of the name of what a call calls, without leading underscores; empty if `node` is no call."""
    match node:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name.lstrip("_")
        case _:
            return ""


def attached(node: ast.Call, module: str, names: Names) -> Iterator[Attached]:
    """What the call in `module` documents; nothing if it is another kind of call or its text can't be told."""
    given = [static_text(argument, names) for argument in node.args]
    match called_name(node), given:
        case "add_newdoc", [str(where), str(name), None]:
            yield from _attributes(where, name, node.args[2], names)
        case "add_newdoc", [str(where), str(name), str(doc)]:
            yield Attached(where, name, "", doc, node.lineno)
        case "add_newdoc", [str(name), str(doc)]:
            yield Attached(module.rpartition(".")[0], name, "", doc, node.lineno)
        case "add_newdoc_for_scalar_type", [str(name), str(signature), str(doc)]:
            yield Attached("numpy._core.numerictypes", name, signature, doc, node.lineno)
        case "array_method_doc", [str(name), str(parameters), str(doc)]:
            yield Attached("numpy._core.multiarray", f"ndarray.{name}", f"({parameters})", doc, node.lineno)
        case "add_docstr_all", [str(name), str(doc)] if module == "torch._tensor_docs":
            yield Attached("torch", f"Tensor.{name}", "", doc, node.lineno)
        case "add_docstr", [_, str(doc)]:
            dotted = ast.unparse(node.args[0])
            if re.fullmatch(r"\w+(\.\w+)+", dotted):
                yield Attached(dotted.rpartition(".")[0], dotted.rpartition(".")[2], "", doc, node.lineno)
        case _:
            return


def _attributes(module: str, name: str, given: ast.expr, names: Names) -> Iterator[Attached]:
    """numpy's form for attributes: a pair (attribute, text), or a list of such pairs."""
    for pair in given.elts if isinstance(given, ast.List) else [given]:
        if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
            attribute, doc = (static_text(part, names) for part in pair.elts)
            if attribute and doc:
                yield Attached(module, f"{name}.{attribute}", "", doc, pair.lineno)

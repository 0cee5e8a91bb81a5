"""Read the documented symbols of one Python file from its syntax tree: nothing is imported, nothing is run.

In: the bytes of a .py or .pyi file. Out: symbols (qualified name, kind, signature, cleaned docstring, line), what the file
re-exports, and how many public symbols have no docstring. Time: O(n) in the size of the file. Memory: about 40× the file, for its
syntax tree. Function bodies are parsed but never walked.
"""

from __future__ import annotations

import ast
import codecs
import inspect
import io
import re
import tokenize
import warnings
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from pipeline.download.python.definitions import Definitions, iterate_statements, read_definitions
from pipeline.download.python.static_text import (
    Names,
    evaluate_text,
    evaluate_value,
    find_attached_docs,
    get_called_name,
)
from pipeline.download.python.symbol_signatures import (
    SourceLines,
    get_decorator_names,
    render_class_signature,
    render_function_signature,
    split_signature,
)

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
UNINFORMATIVE = (
    "",
    "(*args)",
    "(*args, **kwargs)",
    "(*args, **kw)",
    "(*args, **kwds)",
)  # the docstring's own is better
PLACEHOLDER_LINE = re.compile(r"^[ \t]*(%\([\w:.]+\)s|\{\w+\}|\{\{\w+\}\})[ \t]*(\n|$)", re.MULTILINE)

DIRECTIVE_LINE = re.compile(r"^[ \t]*(>>>|\.\.\.)[ \t]*# ?x?doctest:.*\n", re.MULTILINE)
DIRECTIVE = re.compile(r"[ \t]*# ?(x?doctest:|noqa\b).*$", re.MULTILINE)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]+")


class Symbol(NamedTuple):
    """A documented symbol. `module` is empty for a symbol of the file itself; `qualname` for the module's own docstring."""

    module: str
    qualname: str
    kind: str
    prefix: str
    signature: str
    doc: str
    line: int


@dataclass
class Exports:
    """What a module exports besides its own definitions."""

    names: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])  # imported: (module, name)
    stars: list[str] = field(default_factory=list[str])  # modules that it star-imports
    instances: dict[str, str] = field(default_factory=dict[str, str])  # `col = Col()`: name → class of the same file
    listed: list[str] | None = None  # `__all__`, where it is a literal
    listed_from: str = ""  # the module whose `__all__` it imports


@dataclass
class Parsed:
    """What was read from one file."""

    symbols: list[Symbol]
    exports: Exports
    undocumented: int
    bare: list[Symbol] = field(default_factory=list[Symbol])  # definitions without a docstring
    definitions: Definitions = field(default_factory=Definitions)


class UnreadableError(Exception):
    """Raised for a file that is not Python source, with a reason that is counted and Python's error message."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def parse_tree(data: bytes) -> tuple[ast.Module, SourceLines]:
    """Return the syntax tree and the lines in UTF-8, which its columns are offsets into. Raise `UnreadableError`."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UnreadableError("not_utf8", str(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the file are not reported
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UnreadableError("not_python", f"{type(error).__name__}: {error}") from error
    return tree, SourceLines((data if encoding == "utf-8" else text.encode()).splitlines())


def parse_file(data: bytes, module: str, is_package: bool) -> Parsed:
    """Return everything public in the file of `module`. Raise `UnreadableError` if it is not Python source."""
    tree, source = parse_tree(data)
    reader = _Reader(module, is_package, source)
    reader.add("", "module", "", "", ast.get_docstring(tree, clean=False), 1)
    reader.find_instances(tree.body)
    reader.read_module(tree.body)
    symbols, bare = reader.collect_symbols(), reader.collect_bare()
    n_undocumented = sum(not is_private_part(symbol.qualname) for symbol in bare)
    return Parsed(symbols, reader.exports, n_undocumented, bare, read_definitions(tree))


def is_private_part(qualname: str) -> bool:
    """Return whether a class or function that a qualified name goes through is private."""
    return qualname.startswith("_") or "._" in qualname


def clean_docstring(doc: str) -> str:
    """Remove indentation, trailing spaces, control characters (click's `\\b`), directives for checkers, and lines that consist of
    a template placeholder only."""
    doc = CONTROL.sub("", PLACEHOLDER_LINE.sub("", doc))
    if "doctest:" in doc or "# noqa" in doc:
        doc = DIRECTIVE.sub("", DIRECTIVE_LINE.sub("", doc))
    return "\n".join([line.rstrip() for line in inspect.cleandoc(doc).split("\n")]).strip()


class _Reader:
    """Collects the symbols of one file; the first documented definition of a name takes precedence. Private classes are read too:
    public classes inherit from them."""

    def __init__(self, module: str, is_package: bool, source: SourceLines) -> None:
        self.module, self.is_package, self.source = module, is_package, source
        self.documented: dict[tuple[str, str], Symbol] = {}
        self.seen: dict[tuple[str, str], tuple[str, str, str, int]] = {}
        self.exports = Exports()
        self.names: Names = {}

    def add(
        self, qualname: str, kind: str, prefix: str, signature: str, doc: str | None, line: int, module: str = ""
    ) -> None:
        """Record a definition; keep it as a symbol if it is the first one with a docstring."""
        key = (module, qualname)
        kind, prefix, signature, line = self.seen.setdefault(key, (kind, prefix, signature, line))
        if doc and key not in self.documented:
            opening, rest = split_signature(clean_docstring(doc), qualname.rpartition(".")[2])
            signature = opening if opening and signature in UNINFORMATIVE else signature
            if rest:
                self.documented[key] = Symbol(module, qualname, kind, prefix, signature, rest, line)

    def collect_symbols(self) -> list[Symbol]:
        """Return the documented symbols; a name whose attributes were documented by calls is a class."""
        owners = {(module, qualname.rpartition(".")[0]) for module, qualname in self.documented if module}
        return [
            symbol._replace(kind="class") if symbol.kind == "function" and key in owners else symbol
            for key, symbol in self.documented.items()
        ]

    def collect_bare(self) -> list[Symbol]:
        """Return the definitions without a docstring."""
        missing = [(key, seen) for key, seen in self.seen.items() if key not in self.documented]
        return [
            Symbol(module, qualname, kind, prefix, signature, "", line)
            for (module, qualname), (kind, prefix, signature, line) in missing
        ]

    def find_instances(self, body: list[ast.stmt]) -> None:
        """Record instances such as `norm = norm_gen(…)`: users call the instance, and its class documents it."""
        for statement in iterate_statements(body):
            match statement:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id=made)))
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.Call(func=ast.Name(id=made)))
                ) if not name.startswith("_"):
                    self.exports.instances.setdefault(name, made)
                case _:
                    pass

    def read_module(self, body: list[ast.stmt]) -> None:
        """Read every statement of the module that defines, exports or documents something."""
        for statement in iterate_statements(body):
            match statement:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.read_function(statement, "")
                case ast.ClassDef():
                    self.read_class(statement, "")
                case ast.ImportFrom():
                    self.read_import(statement)
                case (
                    ast.Assign(targets=[target], value=value) | ast.AnnAssign(target=target, value=ast.expr() as value)
                ):
                    self.read_assignment(target, value, statement.lineno)
                case ast.AugAssign(target=ast.Name(id="__all__"), value=value):
                    self.read_all(value, self.exports.listed)
                case ast.Expr(value=ast.Call() as call):
                    self.read_call(call)
                case _:
                    pass

    def read_function(self, node: Function, owner: str) -> None:
        decorators = get_decorator_names(node)
        if node.name.startswith("_") or any(name.endswith((".setter", ".deleter")) for name in decorators):
            return
        doc = ast.get_docstring(node, clean=False)
        if not doc and any(name.rpartition(".")[2] == "overload" for name in decorators):
            return
        prefix, signature = render_function_signature(node, decorators, bool(owner), self.source)
        qualname = f"{owner}.{node.name}" if owner else node.name
        self.add(qualname, "method" if owner else "function", prefix, signature, doc, node.lineno)

    def read_class(self, node: ast.ClassDef, owner: str) -> None:
        qualname = f"{owner}.{node.name}" if owner else node.name
        body = list(iterate_statements(node.body))
        signature, doc = self.render_class(
            node, body, has_instance=not owner and node.name in self.exports.instances.values()
        )
        self.add(qualname, "class", "", signature, doc, node.lineno)
        for part in body:
            match part:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.read_function(part, qualname)
                case ast.ClassDef():
                    self.read_class(part, qualname)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="property")) as call):
                    self.read_property(qualname, name, call)
                case _:
                    pass

    def render_class(self, node: ast.ClassDef, body: list[ast.stmt], has_instance: bool) -> tuple[str, str]:
        """Return (signature, docstring) of a class, including those of `__init__`, or of `__call__` if its instance is called."""
        own = clean_docstring(ast.get_docstring(node, clean=False) or "")
        makers = {
            part.name: part for part in body if isinstance(part, FUNCTIONS) and ast.get_docstring(part, clean=False)
        }
        maker = makers.get("__call__") if has_instance and "__call__" in makers else makers.get("__init__")
        if maker is None:
            return render_class_signature(node, body, self.source), own
        opening, rest = split_signature(clean_docstring(ast.get_docstring(maker, clean=False) or ""), node.name)
        is_call = maker.name == "__call__"
        signature = (
            render_function_signature(maker, [], True, self.source)[1]
            if is_call
            else render_class_signature(node, body, self.source)
        )
        signature = opening if opening and signature in UNINFORMATIVE else signature
        return signature, f"{rest}\n\n{own}".strip() if is_call else f"{own}\n\n{rest}".strip()

    def read_property(self, owner: str, name: str, call: ast.Call) -> None:
        docs = call.args[3:4] + [keyword.value for keyword in call.keywords if keyword.arg == "doc"]
        if not name.startswith("_"):
            doc = evaluate_text(docs[0], self.names) if docs else None
            self.add(f"{owner}.{name}", "method", "property ", "", doc, call.lineno)

    def read_import(self, node: ast.ImportFrom) -> None:
        """Record the imported names under their absolute module."""
        origin = node.module or ""
        if node.level:
            parts = self.module.split(".")
            parts = parts[: len(parts) - node.level + self.is_package]
            origin = ".".join([*parts, *([origin] if origin else [])])
        for alias in node.names:
            if alias.name == "*":
                self.exports.stars.append(origin)
            elif alias.name == "__all__":
                self.exports.listed_from = origin
            else:
                self.exports.names.setdefault(alias.asname or alias.name, (origin, alias.name))

    def read_assignment(self, target: ast.expr, value: ast.expr, line: int) -> None:
        match target:
            case ast.Name(id="__all__"):
                self.read_all(value, [])
            case ast.Name(id="__doc__"):
                self.add("", "module", "", "", evaluate_text(value, self.names), line)
            case ast.Name(id=name) if isinstance(value, ast.Call) and get_called_name(value) == "add_docstr":
                self.attach(name, evaluate_text(value.args[-1], self.names) if value.args else None, line)
            case ast.Name(id=name):
                constant = evaluate_value(value, self.names)
                if constant is not None:
                    self.names[name] = constant
            case ast.Attribute(value=ast.Name(id=name), attr="__doc__"):
                self.attach(name, evaluate_text(value, self.names), line)
            case _:
                pass

    def read_all(self, value: ast.expr, before: list[str] | None) -> None:
        """Record the names of `__all__` while it is a literal; otherwise the imports of the module are its exports."""
        names = [evaluate_text(item, {}) for item in value.elts] if isinstance(value, ast.List | ast.Tuple) else [None]
        known = [name for name in names if name is not None]
        self.exports.listed = None if before is None or len(known) != len(names) else [*before, *known]

    def read_call(self, node: ast.Call) -> None:
        """Read `__all__.extend([…])`, or a call that documents a compiled function."""
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="__all__")), args=[ast.List() as names]):
                self.read_all(names, self.exports.listed)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="__all__"))):
                self.exports.listed = None
            case _:
                for attached in find_attached_docs(node, self.module, self.names):
                    self.attach(attached.qualname, attached.doc, attached.line, attached.module, attached.signature)

    def attach(self, qualname: str, doc: str | None, line: int, module: str = "", signature: str = "") -> None:
        """Record documentation that is attached outside the definition."""
        if doc is not None and not qualname.rpartition(".")[2].startswith("_"):
            self.add(qualname, "method" if "." in qualname else "function", "", signature, doc, line, module)

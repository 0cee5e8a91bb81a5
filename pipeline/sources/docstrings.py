"""The documented symbols of one Python file, read from its syntax tree: nothing is imported, nothing is run.

In: the bytes of a .py or .pyi file. Out: symbols (qualified name, kind, signature, cleaned docstring, line), what the file
re-exports, and how many public symbols have no docstring. Order n in the file's size; memory about 40× the file, for its
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
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from pipeline.sources.signatures import Source, class_signature, decorator_names, function_signature, split_signature
from pipeline.sources.static_text import Names, static_text, static_value

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ATTACHERS = {"add_newdoc", "add_docstr", "add_docstr_all"}  # numpy, scipy, torch: documentation for compiled functions
TENSOR_METHODS = "torch.Tensor"  # what torch's add_docstr_all documents
PLACEHOLDER_LINE = re.compile(r"[ \t]*(%\([\w:.]+\)s|\{\w+\}|\{\{\w+\}\})[ \t]*(\n|$)")


class Symbol(NamedTuple):
    """`module` is empty for a symbol of the file itself; `qualname` is empty for the module's own docstring."""

    module: str
    qualname: str
    kind: str
    prefix: str
    signature: str
    doc: str
    line: int


@dataclass
class Exports:
    """What a module shows besides its own definitions: names → (module, name), starred modules, a literal `__all__`."""

    names: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    stars: list[str] = field(default_factory=list[str])
    listed: list[str] | None = None
    listed_from: str = ""


@dataclass
class Parsed:
    symbols: list[Symbol]
    exports: Exports
    undocumented: int


class UnreadableError(Exception):
    """A file that is no Python source: a reason to count, and what Python says about it."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def parse_tree(data: bytes) -> tuple[ast.Module, Source]:
    """The syntax tree and the lines in UTF-8 that its columns count in. Raises `UnreadableError`."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UnreadableError("not_utf8", str(error)) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes are the file's business
        try:
            tree = ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise UnreadableError("not_python", f"{type(error).__name__}: {error}") from error
    return tree, Source((data if encoding == "utf-8" else text.encode()).splitlines())


def parse_file(data: bytes, module: str, is_package: bool, has_docs: bool = True) -> Parsed:
    """Everything public in the file `module` was read from. Raises `UnreadableError`."""
    tree, source = parse_tree(data)
    reader = _Reader(module, is_package, source)
    if has_docs:
        reader.add("", "module", "", "", ast.get_docstring(tree, clean=False), 1)
    reader.module_body(tree.body)
    return Parsed(reader.symbols(), reader.exports, reader.undocumented())


def clean(doc: str) -> str:
    """The docstring without its indentation, trailing spaces and lines that only hold a template's placeholder."""
    doc = inspect.cleandoc(PLACEHOLDER_LINE.sub("", doc))
    return "\n".join(line.rstrip() for line in doc.split("\n")).strip("\n")


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module or class body, also those under `if`, `try` and `with`."""
    for statement in body:
        yield statement
        match statement:
            case ast.If(body=first, orelse=other):
                yield from statements([*first, *other])
            case ast.Try(body=first, handlers=handlers, orelse=other, finalbody=last):
                rest = [inner for handler in handlers for inner in handler.body]
                yield from statements([*first, *rest, *other, *last])
            case ast.With(body=first):
                yield from statements(first)
            case _:
                pass


class _Reader:
    """Collects the symbols of one file; the first documented definition of a name is the one that counts."""

    def __init__(self, module: str, is_package: bool, source: Source) -> None:
        self.module, self.is_package, self.source = module, is_package, source
        self.found: dict[tuple[str, str], Symbol] = {}
        self.seen: dict[tuple[str, str], tuple[str, str, str, int]] = {}
        self.exports = Exports()
        self.names: Names = {}

    def add(
        self, qualname: str, kind: str, prefix: str, signature: str, doc: str | None, line: int, module: str = ""
    ) -> None:
        key = (module, qualname)
        kind, prefix, signature, line = self.seen.setdefault(key, (kind, prefix, signature, line))
        cleaned = clean(doc) if doc else ""
        if cleaned and key not in self.found:
            self.found[key] = Symbol(module, qualname, kind, prefix, signature, cleaned, line)

    def symbols(self) -> list[Symbol]:
        """What was found; a name whose attributes are documented by calls too is a class."""
        owners = {(module, qualname.rpartition(".")[0]) for module, qualname in self.found}
        return [
            symbol._replace(kind="class") if symbol.kind == "function" and key in owners else symbol
            for key, symbol in self.found.items()
        ]

    def undocumented(self) -> int:
        return len(self.seen) - len(self.found)

    def module_body(self, body: list[ast.stmt]) -> None:
        for statement in statements(body):
            match statement:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.function(statement, "")
                case ast.ClassDef():
                    self.class_(statement, "")
                case ast.ImportFrom():
                    self.import_from(statement)
                case ast.Assign(targets=[target]):
                    self.assign(target, statement.value, statement.lineno)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self.assign(target, value, statement.lineno)
                case ast.AugAssign(target=ast.Name(id="__all__"), value=value):
                    self.list_all(value, self.exports.listed)
                case ast.Expr(value=ast.Call() as call):
                    self.call(call)
                case _:
                    pass

    def function(self, node: Function, owner: str) -> None:
        name = node.name
        decorators = decorator_names(node)
        if name.startswith("_") or any(decorator.endswith((".setter", ".deleter")) for decorator in decorators):
            return
        doc = ast.get_docstring(node, clean=False)
        if not doc and any(decorator.rpartition(".")[2] == "overload" for decorator in decorators):
            return
        prefix, signature = function_signature(node, decorators, bool(owner), self.source)
        qualname = f"{owner}.{name}" if owner else name
        self.add(qualname, "method" if owner else "function", prefix, signature, doc, node.lineno)

    def class_(self, node: ast.ClassDef, owner: str) -> None:
        if node.name.startswith("_"):
            return
        qualname = f"{owner}.{node.name}" if owner else node.name
        body = list(statements(node.body))
        makers = [part for part in body if isinstance(part, FUNCTIONS) and part.name == "__init__"]
        docs = [ast.get_docstring(part, clean=False) for part in (node, *makers[-1:])]
        doc = "\n\n".join(clean(part) for part in docs if part)
        self.add(qualname, "class", "", class_signature(node, body, self.source), doc, node.lineno)
        for part in body:
            match part:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    self.function(part, qualname)
                case ast.ClassDef():
                    self.class_(part, qualname)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="property")) as call):
                    self.property_(qualname, name, call)
                case _:
                    pass

    def property_(self, owner: str, name: str, call: ast.Call) -> None:
        given = call.args[3:4] + [keyword.value for keyword in call.keywords if keyword.arg == "doc"]
        if not name.startswith("_"):
            doc = static_text(given[0], self.names) if given else None
            self.add(f"{owner}.{name}", "method", "property ", "", doc, call.lineno)

    def import_from(self, node: ast.ImportFrom) -> None:
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

    def assign(self, target: ast.expr, value: ast.expr, line: int) -> None:
        match target:
            case ast.Name(id="__all__"):
                self.list_all(value, [])
            case ast.Name(id="__doc__"):
                self.add("", "module", "", "", static_text(value, self.names), line)
            case ast.Name(id=name) if isinstance(value, ast.Call) and _called(value) == "add_docstr" and len(value.args) > 1:
                self.attach(name, static_text(value.args[1], self.names), value.lineno)
            case ast.Name(id=name):
                found = static_value(value, self.names)
                if found is not None:
                    self.names[name] = found
            case ast.Attribute(value=ast.Name(id=name), attr="__doc__"):
                self.attach(name, static_text(value, self.names), line)
            case _:
                pass

    def list_all(self, value: ast.expr, before: list[str] | None) -> None:
        """`__all__` counts only while it is a literal; otherwise the imports of the module speak for it."""
        names = [static_text(item, {}) for item in value.elts] if isinstance(value, ast.List | ast.Tuple) else [None]
        known = [name for name in names if name is not None]
        self.exports.listed = None if before is None or len(known) != len(names) else [*before, *known]

    def call(self, node: ast.Call) -> None:
        """`add_newdoc(module, name, doc)`, `add_newdoc(name, doc)`, `add_docstr(module.name, doc)` and their like."""
        called = _called(node)
        if called not in ATTACHERS or not 2 <= len(node.args) <= 3 or node.keywords:
            return
        first = static_text(node.args[0], self.names)
        if called == "add_docstr":
            self.attach_dotted(ast.unparse(node.args[0]), node)
        elif called == "add_docstr_all" and self.module.endswith("._tensor_docs") and first:
            self.attach_dotted(f"{TENSOR_METHODS}.{first}", node)
        elif called == "add_newdoc" and first and len(node.args) == 2:
            package = self.module.rpartition(".")[0]
            self.attach(first, static_text(node.args[1], self.names), node.lineno, package)
        elif called == "add_newdoc" and first:
            self.add_newdoc(first, node.args[1], node.args[2])

    def add_newdoc(self, module: str, place: ast.expr, given: ast.expr) -> None:
        """numpy's form: the third argument is the text, a pair (attribute, text) or a list of such pairs."""
        name = static_text(place, self.names)
        if not name:
            return
        pairs = given.elts if isinstance(given, ast.List) else [given]
        for pair in pairs:
            if isinstance(pair, ast.Tuple) and len(pair.elts) == 2:
                attribute = static_text(pair.elts[0], self.names)
                if attribute and not attribute.startswith("_"):
                    self.attach(f"{name}.{attribute}", static_text(pair.elts[1], self.names), pair.lineno, module)
            else:
                self.attach(name, static_text(pair, self.names), pair.lineno, module)

    def attach_dotted(self, dotted: str, node: ast.Call) -> None:
        if re.fullmatch(r"\w+(\.\w+)+", dotted):
            module, _, name = dotted.rpartition(".")
            self.attach(name, static_text(node.args[1], self.names), node.lineno, module)

    def attach(self, qualname: str, doc: str | None, line: int, module: str = "") -> None:
        if doc is None or qualname.rpartition(".")[2].startswith("_"):
            return
        kind = "method" if "." in qualname else "function"
        signature, rest = split_signature(clean(doc), qualname.rpartition(".")[2])
        self.add(qualname, kind, "", signature, rest, line, module)


def _called(node: ast.Call) -> str:
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lstrip("_")
        case _:
            return ""

"""Read the source `python_docs`: the documentation of the Python environment that runs the pipeline.

In: names of installed distributions, `stdlib` for the standard library. Out: one document per documented module, class,
function and method, plus the language topics of `pydoc_data`. Files are parsed with `ast` in parallel and never imported.
Time: O(n) in the size of the sources (15 MB/s per core). Memory: the documents of one distribution, and 40× the largest file per
worker.
"""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pipeline.download.params import PythonDocs
from pipeline.download.python import docstrings
from pipeline.download.python.distributions import (
    STDLIB,
    Package,
    SourceFile,
    find_distribution,
    find_standard_library,
)
from pipeline.download.python.docstrings import Exports, Parsed, Symbol, UnreadableError
from pipeline.download.python.public_names import Module, PublicNames, is_alias
from pipeline.download.python.static_text import evaluate_value
from pipeline.download.readers.document import Document, DocumentBatch, Reading, Reject, dump_canonical_json
from pipeline.workers.map import map_shards

TOPICS = "pydoc_data/topics.py"
CHUNK_BYTES = 2_000_000  # of source code per task: about 0.15 s
BATCH_DOCS = 4_096


class FileResult(NamedTuple):
    """A file and either what was parsed from it or (reason, detail) of the error."""

    file: SourceFile
    module: str
    parsed: Parsed | None
    error: tuple[str, str]


class SymbolLocation(NamedTuple):
    """A symbol, the file and module that document it, and its public name."""

    file: SourceFile
    module: str
    symbol: Symbol
    title: str


ReadFile: TypeAlias = tuple[SourceFile, str, Parsed]


def open_source(
    params: PythonDocs, setting: str, search_path: Sequence[str] | None = None, stdlib: Path | None = None
) -> Reading:
    """Find the packages' files and return a reading of their documents. Raise `UserError` for a package that is not installed."""
    packages = [
        find_standard_library(stdlib)
        if name == STDLIB
        else find_distribution(name, f"{setting}.packages.{position}", search_path)
        for position, name in enumerate(params.packages)
    ]
    return Reading(sum(file.n_bytes for package in packages for file in package.files), _read(packages))


def get_module_name(relative: str) -> str:
    """Return the module name of a path: `numpy/linalg/__init__.py` → `numpy.linalg`."""
    return relative.rpartition(".")[0].removesuffix("/__init__").replace("/", ".")


def _read(packages: Sequence[Package]) -> Iterator[DocumentBatch]:
    chunks = [(position, chunk) for position, package in enumerate(packages) for chunk in _cut_chunks(package.files)]
    results = map_shards(parse_files, [chunk for _, chunk in chunks])
    parsed: list[FileResult] = []
    for at, ((position, chunk), result) in enumerate(zip(chunks, results, strict=True)):
        parsed += result
        yield DocumentBatch([], [], {}, sum(file.n_bytes for file in chunk))
        if at + 1 == len(chunks) or chunks[at + 1][0] != position:
            yield from _make_batches(packages[position], parsed)
            parsed = []


def _cut_chunks(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
    chunk: list[SourceFile] = []
    n_bytes = 0
    for file in files:
        chunk.append(file)
        n_bytes += file.n_bytes
        if n_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, n_bytes = [], 0
    if chunk:
        yield chunk


def parse_files(files: Sequence[SourceFile]) -> list[FileResult]:
    """Parse a few files; runs in a worker. Syntax trees have no cycles, so the garbage collector would only cost time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return [_parse(file) for file in files]
    finally:
        if was_enabled:
            gc.enable()


def _parse(file: SourceFile) -> FileResult:
    module = get_module_name(file.relative)
    try:
        data = Path(file.path).read_bytes()
        if file.relative == TOPICS:
            return FileResult(file, module, Parsed(_parse_topics(data), Exports(), 0), ("", ""))
        return FileResult(file, module, docstrings.parse_file(data, module, _is_package(file)), ("", ""))
    except UnreadableError as error:
        return FileResult(file, module, None, (error.reason, error.detail))
    except OSError as error:
        return FileResult(file, module, None, ("unreadable", error.strerror or type(error).__name__))


def _parse_topics(data: bytes) -> list[Symbol]:
    """Return the language reference that `help("for")` shows: a literal table of texts."""
    tree, _ = docstrings.parse_tree(data)
    tables = [evaluate_value(node.value, {}) for node in tree.body if isinstance(node, ast.Assign)]
    return [
        Symbol("", name, "topic", "", "", docstrings.clean_docstring(text), 1)
        for table in tables
        if isinstance(table, dict)
        for name, text in sorted(table.items())
        if isinstance(text, str) and text.strip()
    ]


def _make_batches(package: Package, results: Sequence[FileResult]) -> Iterator[DocumentBatch]:
    """Yield the rejects and counts of one package, then its documents."""
    source = f"python_docs/{package.name}"
    rejects = [
        Reject(
            source,
            dump_canonical_json({"package": package.name, "version": package.version, "file": file.relative}),
            *error,
        )
        for file, _, parsed, error in results
        if parsed is None
    ]
    read = _resolve_modules([(file, module, parsed) for file, module, parsed, _ in results if parsed is not None])
    names = PublicNames(_collect_modules(read))
    docs: list[Document] = []
    for location in _name_symbols(read, names):
        document = _make_document(package, source, location)
        if isinstance(document, Document):
            docs.append(document)
        else:
            rejects.append(document)
    undocumented = sum(parsed.undocumented for _, _, parsed in read)
    origin = {"package": package.name, "version": package.version}
    yield DocumentBatch([], rejects, {"undocumented_symbols": undocumented}, 0, [origin])
    for start in range(0, len(docs), BATCH_DOCS):
        yield DocumentBatch(docs[start : start + BATCH_DOCS], [], {}, 0)


def _resolve_modules(read: Sequence[ReadFile]) -> list[ReadFile]:
    """Split the dotted paths that calls document: `torch.Tensor.abs` is `Tensor.abs` of the module `torch`."""
    known = {module for _, module, _ in read}
    for _, _, parsed in read:
        for position, symbol in enumerate(parsed.symbols):
            module, qualname = symbol.module, symbol.qualname
            while module and module not in known:
                module, _, owner = module.rpartition(".")
                qualname = f"{owner}.{qualname}"
            if module and module != symbol.module:
                kind = "method" if symbol.kind == "function" else symbol.kind
                parsed.symbols[position] = symbol._replace(module=module, qualname=qualname, kind=kind)
    return list(read)


def _collect_modules(read: Sequence[ReadFile]) -> dict[str, Module]:
    defined: dict[str, set[str]] = {module: set() for _, module, _ in read}
    for _, module, parsed in read:
        for symbol in parsed.symbols:
            defined.setdefault(symbol.module or module, set()).add(symbol.qualname.partition(".")[0])
    return {
        module: Module(_is_package(file), parsed.exports, frozenset(defined[module] - {""}))
        for file, module, parsed in read
    }


def _name_symbols(read: Sequence[ReadFile], names: PublicNames) -> Iterator[SymbolLocation]:
    """Yield each symbol with its public name. A symbol documented where it is defined is not taken from a stub again."""
    titles: set[str] = set()
    later: list[SymbolLocation] = []
    for file, home, parsed in read:
        for symbol in parsed.symbols:
            module = symbol.module or home
            title = symbol.qualname if symbol.kind == "topic" else names.get_name(module, symbol.qualname)
            location = SymbolLocation(file, module, symbol, title)
            if symbol.module or is_alias(module, symbol.qualname):
                later.append(location)
            else:
                titles.add(title)
                yield location
    for location in later:
        if location.title not in titles:
            titles.add(location.title)
            yield location


def _make_document(package: Package, source: str, location: SymbolLocation) -> Document | Reject:
    file, module, symbol, title = location
    where = {"package": package.name, "version": package.version, "file": file.relative, "line": symbol.line}
    what = {"module": module, "qualname": symbol.qualname, "kind": symbol.kind, "signature": symbol.signature.strip()}
    locator = dump_canonical_json({**where, **what})
    doc = symbol.doc.removeprefix(f"{title}\n").strip()  # some docstrings begin with their own name as a heading
    text = f"{symbol.prefix}{title}{symbol.signature}\n\n{doc}"
    try:
        (text + locator).encode()
    except UnicodeEncodeError as error:
        return Reject(source, dump_canonical_json(where), "not_unicode", str(error))
    return Document(source, locator, text, title, "", package.license)


def _is_package(file: SourceFile) -> bool:
    return file.relative.rpartition(".")[0].endswith("/__init__")

"""Read the source `python_docs`: the documentation of the Python environment that runs the pipeline.

In: names of installed distributions, `stdlib` for the standard library. Out: one document per documented module, class,
function and method, plus the language topics of `pydoc_data` and the pages that packages ship as text. Files are parsed with `ast`
in parallel and never imported; only the standard library's compiled modules are, in a child process (builtin_docs.py).
Time: O(n) in the size of the sources (15 MB/s per core). Memory: the documents of one distribution, and 40× the largest file per
worker.
"""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.download.params import PythonDocs
from pipeline.download.python import docstrings
from pipeline.download.python.builtin_docs import read_builtins
from pipeline.download.python.distributions import (
    STDLIB,
    Package,
    SourceFile,
    find_distribution,
    find_standard_library,
)
from pipeline.download.python.docstrings import Exports, Parsed, Symbol, UnreadableError
from pipeline.download.python.guides import read_guides
from pipeline.download.python.inherited_names import BUILTINS, InheritedNames, ModuleSource
from pipeline.download.python.public_names import Module, PublicNames
from pipeline.download.python.static_text import evaluate_value
from pipeline.download.python.symbol_names import ReadFile, SymbolLocation, name_symbols
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
            builtins = _read_builtin_modules() if packages[position].has_builtins else []
            yield from _make_batches(packages[position], [*parsed, *builtins])
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
    except (OSError, ValueError) as error:
        return FileResult(file, module, None, ("unreadable", getattr(error, "strerror", "") or str(error)))


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


def _read_builtin_modules() -> list[FileResult]:
    """Read the modules that have no Python source; the locator of their symbols names no file."""
    return [FileResult(SourceFile("", "", 0), module.name, module.parsed, module.error) for module in read_builtins()]


def _make_batches(package: Package, results: Sequence[FileResult]) -> Iterator[DocumentBatch]:
    """Yield the rejects and counts of one package, then its documents."""
    source = f"python_docs/{package.name}"
    rejects = [
        Reject(source, _make_locator(package, file, module), *error)
        for file, module, parsed, error in results
        if parsed is None
    ]
    read = _resolve_modules([(file, module, parsed) for file, module, parsed, _ in results if parsed is not None])
    modules, names = _collect_sources(read), PublicNames(_collect_modules(read))
    inherited = InheritedNames(modules, names)
    docs: list[Document] = []
    for location in name_symbols(read, names, inherited):
        document = _make_document(package, source, location, inherited)
        if isinstance(document, Document):
            docs.append(document)
        else:
            rejects.append(document)
    for page in read_guides(package):
        if isinstance(page, Document):
            docs.append(page)
        else:
            rejects.append(page)
    undocumented = sum(parsed.undocumented for _, _, parsed in read)
    origin = {"package": package.name, "version": package.version}
    yield DocumentBatch([], rejects, {"undocumented_symbols": undocumented}, 0, [origin])
    for start in range(0, len(docs), BATCH_DOCS):
        yield DocumentBatch(docs[start : start + BATCH_DOCS], [], {}, 0)


def _make_locator(package: Package, file: SourceFile, module: str) -> str:
    where = {"file": file.relative} if file.relative else {"module": module}
    return dump_canonical_json({"package": package.name, "version": package.version, **where})


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
        for symbol in (*parsed.symbols, *parsed.bare):
            defined.setdefault(symbol.module or module, set()).add(symbol.qualname.partition(".")[0])
    return {
        module: Module(_is_package(file), parsed.exports, frozenset(defined[module] - {""}))
        for file, module, parsed in read
    }


def _collect_sources(read: Sequence[ReadFile]) -> dict[str, ModuleSource]:
    symbols: dict[str, dict[str, Symbol]] = {module: {} for _, module, _ in read}
    for _, home, parsed in read:
        for symbol in parsed.symbols:
            if symbol.qualname and symbol.kind != "topic":
                symbols.setdefault(symbol.module or home, {}).setdefault(symbol.qualname, symbol)
    for _, home, parsed in read:
        for symbol in parsed.bare:
            if symbol.qualname:
                symbols.setdefault(symbol.module or home, {}).setdefault(symbol.qualname, symbol)
    return {module: ModuleSource(parsed.exports, parsed.definitions, symbols[module]) for _, module, parsed in read}


def _is_package(file: SourceFile) -> bool:
    return file.relative.rpartition(".")[0].endswith("/__init__")


def _make_document(
    package: Package, source: str, location: SymbolLocation, inherited: InheritedNames
) -> Document | Reject:
    """Return the document of a symbol under one of its names. The locator has the name of the definition, and for a class the
    definitions of its ancestors, so that search finds members under names that have no document."""
    file, module, symbol, title, is_search_only = location
    where: dict[str, object] = {"package": package.name, "version": package.version}
    if file.relative:
        where |= {"file": file.relative, "line": symbol.line}
    what = {"module": module, "qualname": symbol.qualname, "kind": symbol.kind, "signature": symbol.signature.strip()}
    ancestors = inherited.list_ancestors((module, symbol.qualname)) if symbol.kind == "class" else ()
    bases = [".".join(base).removeprefix(f"{BUILTINS}.") for base in ancestors]
    locator = dump_canonical_json({**where, **what, **({"bases": bases} if bases else {})})
    doc = symbol.doc.removeprefix(f"{title}\n").strip()  # some docstrings begin with their own name as a heading
    text = f"{symbol.prefix}{title}{symbol.signature}\n\n{doc}"
    try:
        (text + locator).encode()
    except UnicodeEncodeError as error:
        return Reject(source, dump_canonical_json(where), "not_unicode", str(error))
    return Document(source, locator, text, title, "", package.license, is_search_only)

"""Source `python_docs`: the documentation of the Python environment that runs the pipeline.

In: names of installed distributions, `stdlib` for the standard library. Out: one document per documented module, class,
function and method, plus the language topics of `pydoc_data`. Files are parsed with `ast` in parallel and never imported.
Test modules, vendored copies of other projects and generated protobuf modules are left out.
Order n in the sources' size (15 MB/s a core); memory: the documents of one distribution, and 40× the largest file a worker.
"""

from __future__ import annotations

import ast
import csv
import gc
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeAlias

from pipeline.download.params import PythonDocs
from pipeline.download.python import docstrings
from pipeline.download.python.docstrings import Exports, Parsed, Symbol, UnreadableError
from pipeline.download.python.package_licenses import spdx
from pipeline.download.python.reexports import Module, PublicNames, is_alias
from pipeline.download.python.static_text import static_value
from pipeline.download.readers.document import Document, DocumentBatch, Reading, Reject, canonical_json
from pipeline.frame.errors import UserError
from pipeline.workers.map import map_shards

STDLIB = "stdlib"
STDLIB_LICENSE = "PSF-2.0"
TOPICS = "pydoc_data/topics.py"
LICENSE_FILE = re.compile(r"\.dist-info/(.*/)?(LICENSE|LICENSE|COPYING)[^/]*$", re.IGNORECASE)
CHUNK_BYTES = 2_000_000  # of sources per task: about 0.15 s
BATCH_DOCS = 4_096
SKIPPED_FOLDERS = {
    *("test", "tests", "idle_test", "benchmarks"),  # code about code
    *("site-packages", "dist-packages"),  # other distributions
    *("_vendor", "_vendored", "vendor", "vendored", "externals", "_external"),  # other projects under other licenses
}
SKIPPED_PREFIXES = ("test_", "_test", "_sysconfigdata")
SKIPPED_SUFFIXES = ("_test", "_pb2", "_pb2_grpc")


class SourceFile(NamedTuple):
    """A file of Python: where it lies, its path inside the distribution, its size."""

    path: str
    relative: str
    n_bytes: int


class FileResult(NamedTuple):
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


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    license: str
    files: tuple[SourceFile, ...]


def open_source(
    params: PythonDocs, setting: str, search_path: Sequence[str] | None = None, stdlib: Path | None = None
) -> Reading:
    """The packages' files, and their documents to come. Raises `UserError` for a package that is not installed."""
    packages = [
        _standard_library(stdlib) if name == STDLIB else _installed(name, f"{setting}.packages.{position}", search_path)
        for position, name in enumerate(params.packages)
    ]
    return Reading(sum(file.n_bytes for package in packages for file in package.files), _read(packages))


def _standard_library(root: Path | None) -> Package:
    root = root or Path(sysconfig.get_path("stdlib"))
    names: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]  # site-packages may hold 100,000 files
        inside = Path(folder).relative_to(root)
        names += [(inside / name).as_posix() for name in files if name.endswith(".py")]
    return Package(STDLIB, platform.python_version(), STDLIB_LICENSE, _files(root, sorted(names)))


def _installed(name: str, setting: str, search_path: Sequence[str] | None) -> Package:
    path = list(sys.path if search_path is None else search_path)
    found = next(iter(metadata.distributions(name=name, path=path)), None)
    if found is None:
        raise UserError(
            f"{setting}: the package is not installed",
            repr(name),
            "add it to the requirements and install them, or remove it from download.sources",
        )
    root = Path(str(found.locate_file("")))
    names = _record(found)
    texts = [(root / name).read_text(encoding="utf-8", errors="replace") for name in names if LICENSE_FILE.search(name)]
    files = _files(root, [name for name in names if name.endswith((".py", ".pyi"))])
    if not files:
        raise UserError(
            f"{setting}: the package has no Python sources on record",
            f"{name} {found.version}",
            "install it from a wheel (not in editable mode), or remove it from download.sources",
        )
    return Package(name, found.version, spdx(found.metadata.json, texts), files)


def _record(found: metadata.Distribution) -> list[str]:
    """The installed files in order (RECORD is read here: the library makes a slow path object of each line)."""
    lines = (found.read_text("RECORD") or "").splitlines()
    return sorted({row[0] for row in csv.reader(lines) if row} or {str(file) for file in found.files or []})


def _files(root: Path, names: Sequence[str]) -> tuple[SourceFile, ...]:
    """The files worth reading; a stub beside its implementation is not."""
    known = set(names)
    kept = [name for name in names if is_documented(name) and not (name.endswith(".pyi") and name[:-1] in known)]
    return tuple(SourceFile(str(root / name), name, _size(root / name)) for name in kept)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # on record but not on disk: a reject, when it is read


def is_documented(relative: str) -> bool:
    """Whether a file can hold documentation of its own: no tests, vendored copies, generated or nameless modules."""
    *folders, last = relative.rpartition(".")[0].split("/")
    if SKIPPED_FOLDERS.intersection(folders) or ("testing" in folders and "_internal" in folders):
        return False
    if not all(part.isidentifier() for part in (*folders, last)):
        return False
    return last not in ("conftest", "__main__") and not (
        last.startswith(SKIPPED_PREFIXES) or last.endswith(SKIPPED_SUFFIXES)
    )


def module_name(relative: str) -> str:
    """`numpy/linalg/__init__.py` → `numpy.linalg`."""
    return relative.rpartition(".")[0].removesuffix("/__init__").replace("/", ".")


def _read(packages: Sequence[Package]) -> Iterator[DocumentBatch]:
    chunks = [(position, chunk) for position, package in enumerate(packages) for chunk in _chunks(package.files)]
    results = map_shards(parse_files, [chunk for _, chunk in chunks])
    parsed: list[FileResult] = []
    for at, ((position, chunk), result) in enumerate(zip(chunks, results, strict=True)):
        parsed += result
        yield DocumentBatch([], [], {}, sum(file.n_bytes for file in chunk))
        if at + 1 == len(chunks) or chunks[at + 1][0] != position:
            yield from _documents(packages[position], parsed)
            parsed = []


def _chunks(files: Sequence[SourceFile]) -> Iterator[list[SourceFile]]:
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
    """The symbols of a few files; runs in a worker. Syntax trees have no cycles, so the collector would only cost time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return [_parse(file) for file in files]
    finally:
        if was_enabled:
            gc.enable()


def _parse(file: SourceFile) -> FileResult:
    module = module_name(file.relative)
    try:
        data = Path(file.path).read_bytes()
        if file.relative == TOPICS:
            return FileResult(file, module, Parsed(_topics(data), Exports(), 0), ("", ""))
        return FileResult(file, module, docstrings.parse_file(data, module, _is_package(file)), ("", ""))
    except UnreadableError as error:
        return FileResult(file, module, None, (error.reason, error.detail))
    except OSError as error:
        return FileResult(file, module, None, ("unreadable", error.strerror or type(error).__name__))


def _topics(data: bytes) -> list[Symbol]:
    """The language reference that `help("for")` shows: a literal table of texts."""
    tree, _ = docstrings.parse_tree(data)
    tables = [static_value(node.value, {}) for node in tree.body if isinstance(node, ast.Assign)]
    return [
        Symbol("", name, "topic", "", "", docstrings.clean(text), 1)
        for table in tables
        if isinstance(table, dict)
        for name, text in sorted(table.items())
        if isinstance(text, str) and text.strip()
    ]


def _documents(package: Package, results: Sequence[FileResult]) -> Iterator[DocumentBatch]:
    source = f"python_docs/{package.name}"
    rejects = [
        Reject(
            source, canonical_json({"package": package.name, "version": package.version, "file": file.relative}), *error
        )
        for file, _, parsed, error in results
        if parsed is None
    ]
    read = _placed([(file, module, parsed) for file, module, parsed, _ in results if parsed is not None])
    names = PublicNames(_modules(read))
    docs: list[Document] = []
    for place in _titled(read, names):
        document = _document(package, source, place)
        if isinstance(document, Document):
            docs.append(document)
        else:
            rejects.append(document)
    undocumented = sum(parsed.undocumented for _, _, parsed in read)
    origin = {"package": package.name, "version": package.version}
    yield DocumentBatch([], rejects, {"undocumented_symbols": undocumented}, 0, [origin])
    for start in range(0, len(docs), BATCH_DOCS):
        yield DocumentBatch(docs[start : start + BATCH_DOCS], [], {}, 0)


def _placed(read: Sequence[ReadFile]) -> list[ReadFile]:
    """`torch.Tensor.abs`, documented by a call, is `Tensor.abs` of the module `torch`."""
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


def _modules(read: Sequence[ReadFile]) -> dict[str, Module]:
    defined: dict[str, set[str]] = {module: set() for _, module, _ in read}
    for _, module, parsed in read:
        for symbol in parsed.symbols:
            defined.setdefault(symbol.module or module, set()).add(symbol.qualname.partition(".")[0])
    return {
        module: Module(_is_package(file), parsed.exports, frozenset(defined[module] - {""}))
        for file, module, parsed in read
    }


def _titled(read: Sequence[ReadFile], names: PublicNames) -> Iterator[SymbolLocation]:
    """Each symbol with its public name. What has been documented where it is defined is not taken from a stub again."""
    titles: set[str] = set()
    later: list[SymbolLocation] = []
    for file, home, parsed in read:
        for symbol in parsed.symbols:
            module = symbol.module or home
            title = symbol.qualname if symbol.kind == "topic" else names.of(module, symbol.qualname)
            place = SymbolLocation(file, module, symbol, title)
            if symbol.module or is_alias(module, symbol.qualname):
                later.append(place)
            else:
                titles.add(title)
                yield place
    for place in later:
        if place.title not in titles:
            titles.add(place.title)
            yield place


def _document(package: Package, source: str, place: SymbolLocation) -> Document | Reject:
    file, module, symbol, title = place
    where = {"package": package.name, "version": package.version, "file": file.relative, "line": symbol.line}
    what = {"module": module, "qualname": symbol.qualname, "kind": symbol.kind, "signature": symbol.signature.strip()}
    locator = canonical_json({**where, **what})
    doc = symbol.doc.removeprefix(f"{title}\n").strip()  # some begin with their own name as a heading
    text = f"{symbol.prefix}{title}{symbol.signature}\n\n{doc}"
    try:
        (text + locator).encode()
    except UnicodeEncodeError as error:
        return Reject(source, canonical_json(where), "not_unicode", str(error))
    return Document(source, locator, text, title, "", package.license)


def _is_package(file: SourceFile) -> bool:
    return file.relative.rpartition(".")[0].endswith("/__init__")

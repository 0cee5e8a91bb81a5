"""Read sources whose files are streams of many pages: cut files into chunks in this process, convert chunks in the workers.

In: the settings of a source; a reader that yields the pages of an open file; a function that converts a page into a document.
Out: batches in the order of the files and of the pages in them, the same for any number of workers. Files are read in this
process, one after the other; chunks, of about `CHUNK_BYTES`, are sent to the workers, so that one large file keeps all of them
busy.
Memory: two chunks per worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple, TypeAlias

from pipeline.download.links import find_source_files
from pipeline.download.readers.document import (
    Document,
    DocumentBatch,
    Opened,
    Reading,
    Reject,
    SourcePart,
    dump_canonical_json,
    read_parts,
)
from pipeline.download.readers.text import compute_content_key, describe_files
from pipeline.storage.files import FoundFile
from pipeline.storage.pointers import find_pointer
from pipeline.storage.streams import BROKEN as BROKEN_STREAM
from pipeline.storage.streams import WINDOW_BYTES, BombError, CountedFile
from pipeline.workers.map import map_shards
from pipeline.workers.results import N_HERE

BROKEN = (*BROKEN_STREAM, BombError)
CHUNK_BYTES = 2_000_000
CHUNK_PAGES = 512


class Problem(NamedTuple):
    """Input that could not be read: its location in the file, a reason that is counted, and a detail for the user."""

    where: Mapping[str, object]
    reason: str
    detail: str


class Counted(NamedTuple):
    """Items other than pages, which are counted under this name."""

    name: str
    n: int = 1


class Raw(NamedTuple):
    """A page that a worker converts into a document, and its size."""

    page: Any
    n_bytes: int


class Chunk(NamedTuple):
    """A few pages of one file, with the problems between them; `n_bytes` of the file have been read for them."""

    file: str
    pages: Sequence[Any]
    problems: Sequence[Problem] = ()
    counts: Mapping[str, int] = {}
    n_bytes: int = 0


Item: TypeAlias = Raw | Counted | Problem
Read: TypeAlias = Callable[[CountedFile, str, int], Iterator[Item]]  # open file, file name, maximum size of a page
Make: TypeAlias = Callable[[Any, str, Any], Document | Reject]  # settings, file name, page


def open_chunked(params: Any, setting: str, read: Read, make: Make) -> Reading:
    """Open all files of the source, as one part each. Raise `UserError` if there are none."""
    system, files, n_hidden = find_source_files(params.path, f"{setting}.path")
    parts = [
        SourcePart(found.n_bytes, partial(_open_file, params, system, found, read, make, 0 if at else n_hidden))
        for at, found in enumerate(files)
    ]
    return Reading(sum(found.n_bytes for found in files), read_parts(parts), parts, has_workers=True)


def _open_file(params: Any, system: Any, found: FoundFile, read: Read, make: Make, n_hidden: int) -> Opened:
    """Open one file under a key of its bytes and settings."""
    content = compute_content_key(system, found)
    settings = params.model_dump(exclude={"path"})  # the location of the file makes no difference
    key = {"settings": settings, "hidden": n_hidden, "file": make_locator(found.name, {}), "content": content}
    origin = describe_files((found,), [content])
    first = DocumentBatch([], [], {"hidden_files": n_hidden} if n_hidden else {}, 0, [origin])
    window_bytes = getattr(params, "max_window_bytes", WINDOW_BYTES)
    chunks = _read_chunks(system, found, lambda file: read(file, found.name, params.max_member_bytes), window_bytes)
    batches = chain([first], _map_in_order(partial(_convert_chunk, make, params), chunks))
    return Opened(dump_canonical_json(key) if content else "", batches)


def _convert_chunk(make: Make, params: Any, chunk: Chunk) -> DocumentBatch:
    """Return the documents and rejects of a chunk, after the problems of its file."""
    results = [make(params, chunk.file, page) for page in chunk.pages]
    docs = [result for result in results if isinstance(result, Document)]
    problems = [make_reject(f"{params.kind}/{params.name}", chunk.file, *problem) for problem in chunk.problems]
    rejects = [result for result in results if isinstance(result, Reject)]
    return DocumentBatch(docs, [*problems, *rejects], chunk.counts, chunk.n_bytes)


def make_reject(source: str, file: str, where: Mapping[str, object], reason: str, detail: str) -> Reject:
    """Return a reject whose detail is valid UTF-8."""
    return Reject(source, make_locator(file, where), reason, detail.encode("utf-8", "backslashreplace").decode())


def make_locator(file: str, where: Mapping[str, object]) -> str:
    """Return a locator as canonical JSON. File names need not be UTF-8: other bytes are escaped as `\\udc80`."""
    return dump_canonical_json({**where, "file": file}).encode("utf-8", "backslashreplace").decode()


def make_document(
    source: str, file: str, where: Mapping[str, object], text: str, title: str, url: str, license: str
) -> Document | Reject:
    """Return a document without leading and trailing blank lines, or a reject if it is empty."""
    text = text.strip("\n")
    if not text.strip():
        return make_reject(source, file, where, "empty_text", title or url)
    return Document(source, make_locator(file, where), text, title, url, license)


def _map_in_order(work: Callable[[Chunk], DocumentBatch], chunks: Iterator[Chunk]) -> Iterator[DocumentBatch]:
    """Map `work` over chunks in order. The first ones run in this process: a small source is done before workers have started."""
    yield from map(work, islice(chunks, N_HERE))
    for chunk in chunks:
        yield from map_shards(work, chain([chunk], chunks))


def _read_chunks(
    system: Any, found: FoundFile, read: Callable[[CountedFile], Iterator[Item]], window_bytes: int
) -> Iterator[Chunk]:
    """Yield the chunks of one file; an error while it is read becomes a problem after everything that could be read."""
    if found.reason:
        yield Chunk(found.name, (), [Problem({}, found.reason, found.detail)], n_bytes=found.n_bytes)
        return
    n_read = 0
    problems: list[Problem] = []
    try:
        with system.open(found.path, "rb") as file:
            counted = CountedFile(file, window_bytes)
            for chunk in _cut_chunks(found.name, _read_items(counted, found, read)):
                position = max(n_read, min(counted.n_read, found.n_bytes))
                yield chunk._replace(n_bytes=position - n_read)
                n_read = position
    except BROKEN as error:
        problems.append(describe_failure(error))
    yield Chunk(found.name, (), problems, n_bytes=found.n_bytes - n_read)


def _read_items(file: CountedFile, found: FoundFile, read: Callable[[CountedFile], Iterator[Item]]) -> Iterator[Item]:
    """Yield the items of an open file, unless it is a pointer, and what could not be decompressed behind its end."""
    pointer = find_pointer(file, found.n_bytes)
    yield from [Problem({}, "pointer_file", pointer)] if pointer else read(file)
    if file.trailing:
        yield Problem({}, "trailing_bytes", file.trailing)


def _cut_chunks(name: str, items: Iterator[Item]) -> Iterator[Chunk]:
    pages: list[Any] = []
    problems: list[Problem] = []
    counts: Counter[str] = Counter()
    n_bytes = 0
    try:
        for item in items:
            match item:
                case Raw(page, size):
                    pages.append(page)
                    n_bytes += size
                case Counted(counted, n):
                    counts[counted] += n
                case Problem():
                    problems.append(item)
            if n_bytes >= CHUNK_BYTES or len(pages) >= CHUNK_PAGES:
                yield Chunk(name, pages, problems, counts)
                pages, problems, counts, n_bytes = [], [], Counter(), 0
    except BROKEN as error:
        problems.append(describe_failure(error))
    yield Chunk(name, pages, problems, counts)


def describe_failure(error: BaseException) -> Problem:
    """Return the problem for one of `BROKEN`."""
    if isinstance(error, BombError):
        return Problem({}, "decompression_bomb", str(error))
    return Problem({}, "unreadable", f"{type(error).__name__}: {error}")

"""Sources whose files are streams of many pages: files are found and cut into chunks here, which become documents anywhere.

In: the settings of a source; a reader that cuts an open file into chunks; a function that makes documents of a chunk. Out:
batches in the order of the files and of the pages in them, the same for any number of workers. Files are read in this
process, one after the other; chunks, of about `CHUNK_BYTES`, travel to the workers, so that one large file keeps all of them
busy.
Memory: two chunks a worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple, TypeAlias

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
from pipeline.download.readers.text import content_key, file_origin
from pipeline.storage.files import FoundFile, find_files
from pipeline.storage.streams import BROKEN as BROKEN_STREAM
from pipeline.storage.streams import BombError, CountedFile
from pipeline.workers.map import map_shards
from pipeline.workers.results import N_HERE

BROKEN = (*BROKEN_STREAM, BombError)
CHUNK_BYTES = 2_000_000
CHUNK_PAGES = 512


class Problem(NamedTuple):
    """What could not be read: its place in the file, a reason that is counted, the detail for a person."""

    where: Mapping[str, object]
    reason: str
    detail: str


class Counted(NamedTuple):
    """Something that is no page and is counted under this name."""

    name: str
    n: int = 1


class Raw(NamedTuple):
    """A page of which a worker makes a document, and how much it is."""

    page: Any
    n_bytes: int


class Chunk(NamedTuple):
    """A few pages of one file, with what went wrong between them; `n_bytes` of the file have been read for them."""

    file: str
    pages: Sequence[Any]
    problems: Sequence[Problem] = ()
    counts: Mapping[str, int] = {}
    n_bytes: int = 0


Item: TypeAlias = Raw | Counted | Problem
Read: TypeAlias = Callable[[CountedFile, str, int], Iterator[Item]]  # an open file, its name, the largest page
Make: TypeAlias = Callable[[Any, str, Any], Document | Reject]  # settings, the file's name, a page


def open_chunked(params: Any, setting: str, read: Read, make: Make) -> Reading:
    """Open all files of the source, a part for each. Raises `UserError` if there are none."""
    system, files, n_hidden = find_files(params.path, f"{setting}.path")
    parts = [
        SourcePart(found.n_bytes, partial(_open_file, params, system, found, read, make, 0 if at else n_hidden))
        for at, found in enumerate(files)
    ]
    return Reading(sum(found.n_bytes for found in files), read_parts(parts), parts, has_workers=True)


def _open_file(params: Any, system: Any, found: FoundFile, read: Read, make: Make, n_hidden: int) -> Opened:
    """Open one file under the name of its bytes and settings."""
    content = content_key(system, found)
    settings = params.model_dump(exclude={"path"})  # where the file lies makes no difference
    named = {"settings": settings, "hidden": n_hidden, "file": locator(found.name, {}), "content": content}
    first = DocumentBatch([], [], {"hidden_files": n_hidden} if n_hidden else {}, 0, [file_origin((found,), [content])])
    chunks = _file_chunks(system, found, lambda file: read(file, found.name, params.max_member_bytes))
    batches = chain([first], _in_order(partial(_make, make, params), chunks))
    return Opened(dump_canonical_json(named) if content else "", batches)


def _make(make: Make, params: Any, chunk: Chunk) -> DocumentBatch:
    """Make the documents of a chunk, behind the problems that its file had."""
    made = [make(params, chunk.file, page) for page in chunk.pages]
    problems = [reject(f"{params.kind}/{params.name}", chunk.file, *problem) for problem in chunk.problems]
    rejects = [one for one in made if isinstance(one, Reject)]
    return DocumentBatch(
        [one for one in made if isinstance(one, Document)], [*problems, *rejects], chunk.counts, chunk.n_bytes
    )


def reject(source: str, file: str, where: Mapping[str, object], reason: str, detail: str) -> Reject:
    return Reject(source, locator(file, where), reason, detail.encode("utf-8", "backslashreplace").decode())


def locator(file: str, where: Mapping[str, object]) -> str:
    """File names need not be UTF-8: what is not is shown as `\\udc80`."""
    return dump_canonical_json({**where, "file": file}).encode("utf-8", "backslashreplace").decode()


def make_document(
    source: str, file: str, where: Mapping[str, object], text: str, title: str, url: str, license: str
) -> Document | Reject:
    """Return a document without blank lines around it, or a reject if it is empty."""
    text = text.strip("\n")
    if not text.strip():
        return reject(source, file, where, "empty_text", title or url)
    return Document(source, locator(file, where), text, title, url, license)


def _in_order(work: Callable[[Chunk], DocumentBatch], chunks: Iterator[Chunk]) -> Iterator[DocumentBatch]:
    """The first chunks are done here: a small source is finished before workers have started."""
    yield from map(work, islice(chunks, N_HERE))
    for chunk in chunks:
        yield from map_shards(work, chain([chunk], chunks))


def _file_chunks(system: Any, found: FoundFile, read: Callable[[CountedFile], Iterator[Item]]) -> Iterator[Chunk]:
    """Yield the chunks of one file; what breaks while it is read becomes a problem after what could be read."""
    n_read = 0
    problems: list[Problem] = []
    try:
        with system.open(found.path, "rb") as file:
            counted = CountedFile(file)
            for chunk in _cut(found.name, read(counted)):
                position = max(n_read, min(counted.n_read, found.n_bytes))
                yield chunk._replace(n_bytes=position - n_read)
                n_read = position
    except BROKEN as error:
        problems.append(broken(error))
    yield Chunk(found.name, (), problems, n_bytes=found.n_bytes - n_read)


def _cut(name: str, items: Iterator[Item]) -> Iterator[Chunk]:
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
        problems.append(broken(error))
    yield Chunk(name, pages, problems, counts)


def broken(error: BaseException) -> Problem:
    """The reject for one of `BROKEN`."""
    if isinstance(error, BombError):
        return Problem({}, "decompression_bomb", str(error))
    return Problem({}, "unreadable", f"{type(error).__name__}: {error}")

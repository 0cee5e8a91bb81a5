"""Borrow from the pipeline what an import of documents needs: archives, fetching, decoding, and the rule of takedowns.

The one exception to "assistant imports no pipeline code" (docs/architecture.md): only `python -m assistant.knowledge` calls these
functions, never the chat, and each imports what it needs when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from assistant.knowledge.collection import StoredDocument
from assistant.knowledge.parsers.layout import MAX_DOCUMENT_BYTES, ParseError

if TYPE_CHECKING:
    from pipeline.frame.progress import Bar

TAKEDOWNS = Path("data/takedowns.jsonl")
MatchTakedown = Callable[[Sequence[StoredDocument]], "list[str | None]"]


class ArchiveMember(NamedTuple):
    """A member of an archive; `problem` says why it can't be read. `read` is valid until the next member."""

    name: str
    problem: str
    read: Callable[[], bytes]


class RemoteDocument(NamedTuple):
    """A fetched document: its bytes, and the name that tells its format."""

    data: bytes
    file_name: str


def split_format(name: str) -> tuple[str, str]:
    """Return (ending, compression) of a file name: `guide.md.gz` is (`.md`, `.gz`), `docs.tgz` (`.tar`, `.gz`)."""
    from pipeline.storage.streams import split_name

    return split_name(name)


def read_bounded(file: IO[bytes], compression: str, name: str) -> bytes:
    """Read and decompress a file of at most `MAX_DOCUMENT_BYTES`. Raise `ParseError` if it is longer or broken."""
    from pipeline.storage.streams import BROKEN, BombError, CountedFile, decompress

    try:
        data = decompress(CountedFile(file), compression).read(MAX_DOCUMENT_BYTES + 1)
    except BombError as error:
        raise ParseError("decompression_bomb", str(error)) from error
    except BROKEN as error:
        raise ParseError("unreadable", f"{type(error).__name__}: {error}") from error
    if len(data) > MAX_DOCUMENT_BYTES:
        raise ParseError("too_large", f"{name} has more than {MAX_DOCUMENT_BYTES:,} bytes: split it")
    return data


def iterate_members(path: Path, kind: str, compression: str) -> Iterator[ArchiveMember]:
    """Yield the files in an archive; nothing is written to disk. Raise `ParseError` for what is broken, at its place."""
    from pipeline.storage.streams import BROKEN, BombError, CountedFile, read_members

    try:
        with path.open("rb") as file:
            for member in read_members(CountedFile(file), kind, compression):

                def read(member: object = member) -> bytes:
                    _, packed = split_format(member.name)  # type: ignore[attr-defined]
                    with member.read() as stream:  # type: ignore[attr-defined]
                        return read_bounded(stream, packed, member.name)  # type: ignore[attr-defined]

                yield ArchiveMember(member.name, member.problem, read)
    except BombError as error:
        raise ParseError("decompression_bomb", str(error)) from error
    except BROKEN as error:
        raise ParseError("unreadable", f"{type(error).__name__}: {error}") from error


def fetch_document(url: str, folder: Path) -> RemoteDocument:
    """Fetch a URL into `folder`, which the caller removes. Raise ValueError that names the URL if it can't be fetched."""
    from pipeline.download.readers.fetch import Address, fetch_all

    (fetched,) = fetch_all([Address(url)], "assistant.knowledge add", folder)
    return RemoteDocument(fetched.path.read_bytes(), fetched.path.name)


def decode_text(data: bytes, *, is_page: bool = False) -> str:
    """Decode a text: UTF-8, else what its bytes say. Raise `ParseError` for binary data and pages that would stall the parser."""
    from pipeline.download.pages.charsets import decode, find_wide_encoding
    from pipeline.download.pages.html_shape import measure_shape
    from pipeline.download.pages.web_page import MAX_ATTRIBUTES, MAX_DEPTH

    if b"\0" in data[:4096] and not find_wide_encoding(data):
        raise ParseError("binary", "it has null bytes, which no text has")
    text = decode(data)
    if is_page:
        shape = measure_shape(text.encode())
        if shape.depth > MAX_DEPTH or shape.attributes > MAX_ATTRIBUTES:
            raise ParseError("unreadable", f"nested {shape.depth} deep, {shape.attributes} attributes in a tag")
    return text


def load_takedowns(path: Path) -> MatchTakedown:
    """Return a function that gives for each document the key of the takedown that covers it, or None.

    The rule is that of pipeline/download/tombstones.py, and a takedown by id also covers documents whose text is the one that was
    taken down. Raise ValueError that names a broken line of the file.
    """
    import pyarrow as pa

    from pipeline.download.tombstones import match, prepare, read_tombstones

    stones = read_tombstones(path) if path.is_file() else []
    prepared = prepare(stones)
    copies = {s.sha256: s.key for s in stones if s.sha256}

    def match_documents(documents: Sequence[StoredDocument]) -> list[str | None]:
        if not stones:
            return [None] * len(documents)
        columns = {
            "id": [each.doc_id for each in documents],
            "url": [each.url for each in documents],
            "license": [each.license for each in documents],
        }
        table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        keys = match(table, prepared).to_pylist()
        return [key or copies.get(each.text_sha256) for key, each in zip(keys, documents, strict=True)]

    return match_documents


def show_bar(unit: str, total: int) -> AbstractContextManager[Bar]:
    """Return the pipeline's progress bar."""
    from pipeline.frame.progress import Bar

    return Bar("add", total, unit)

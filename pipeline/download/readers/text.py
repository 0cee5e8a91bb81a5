"""Source `text`: people's own files, folders, globs, archives and fsspec URLs.

In: `.txt .md .rst` (one document a file, or one a piece between `split_on`), `.jsonl .ndjson .parquet` (one document a row),
plain or `.gz .bz2 .xz .zst .lz4`, alone or as members of `.tar` (also compressed) and `.zip`. Out: documents, and a reject with
its reason for everything that could not be read. Files in a folder whose names begin with a dot are counted and left out.
A source is read in parts of about `PART_BYTES` of files. Order n. Memory: one document (at most `max_member_bytes`) and one
batch; nothing is unpacked to disk.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import xxhash
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline.download.params import Text
from pipeline.download.readers.document import (
    Document,
    DocumentBatch,
    Opened,
    Reading,
    Reject,
    RowFormat,
    SourcePart,
    dump_canonical_json,
    read_parts,
)
from pipeline.download.readers.records import PARQUET, PLAIN, ROWS, Columns, Piece, read_pieces
from pipeline.frame.errors import UserError
from pipeline.storage.files import FoundFile, find_files, is_hidden
from pipeline.storage.streams import ARCHIVES, BombError, CountedFile, Member, members, split_name, unpacked
from pipeline.storage.streams import BROKEN as BROKEN_STREAM
from pipeline.workers.results import hash_file

BROKEN = (*BROKEN_STREAM, pa.ArrowException)
BATCH_DOCS = 2_048
BATCH_CHARS = 8_000_000
PART_BYTES = 64_000_000  # what a stopped run may have to read again
PART_FILES = 4_096


def open_source(params: Text, setting: str) -> Reading:
    """The files of the source. Raises `UserError` if there are none."""
    system, files, n_hidden = find_files(params.path, f"{setting}.path")
    if _problem(files[0].name) and files[0].path == url_to_fs(params.path)[1]:  # named itself, not found in a folder
        raise UserError(
            f"{setting}.path: this kind of file can't be read",
            repr(params.path),
            f"convert it to one of {known_kinds()}",
        )
    parts = [
        SourcePart(
            sum(file.n_bytes for file in share), partial(_open_part, params, system, share, 0 if at else n_hidden)
        )
        for at, share in enumerate(_shares(files))
    ]
    check = partial(_check_columns, params, setting)
    return Reading(sum(part.n_bytes for part in parts), read_parts(parts, check), parts, check)


def _shares(files: list[FoundFile]) -> Iterator[tuple[FoundFile, ...]]:
    """Neighbours together, up to `PART_BYTES`; a larger file alone."""
    share: list[FoundFile] = []
    n_bytes = 0
    for file in files:
        if share and (n_bytes + file.n_bytes > PART_BYTES or len(share) == PART_FILES):
            yield tuple(share)
            share, n_bytes = [], 0
        share.append(file)
        n_bytes += file.n_bytes
    yield tuple(share)


def _open_part(params: Text, system: Any, files: tuple[FoundFile, ...], n_hidden: int) -> Opened:
    """The part under the name of its bytes. Local files are hashed; of remote ones the file system's word is taken."""
    hashes = [content_key(system, file) for file in files]
    settings = params.model_dump(exclude={"path"})  # where the files lie makes no difference
    content = [[_printable(file.name), file.n_bytes, key] for file, key in zip(files, hashes, strict=True)]
    key = dump_canonical_json({"settings": settings, "hidden": n_hidden, "content": content})
    return Opened(key if all(hashes) else "", _read(params, system, files, n_hidden, file_origin(files, hashes)))


def content_key(system: Any, file: FoundFile) -> str:
    """Names the bytes of a local file by their hash, of a remote one by what its file system says; empty if neither can."""
    if not isinstance(system, LocalFileSystem):
        return file.version
    try:
        return hash_file(Path(file.path), "")
    except OSError:
        return ""  # a reject, when it is read


def file_origin(files: tuple[FoundFile, ...], hashes: list[str]) -> dict[str, object]:
    """What goes on record: each large file, small ones by the range of their names."""
    total = sum(file.n_bytes for file in files)
    if len(files) == 1:
        return {"path": _printable(files[0].name), "bytes": total, "content": hashes[0]}
    names = [_printable(file.name) for file in files]
    content = xxhash.xxh3_128_hexdigest("\0".join((*names, *hashes)).encode())
    return {"first": names[0], "last": names[-1], "files": len(files), "bytes": total, "content": content}


def _check_columns(params: Text, setting: str, rows: RowFormat) -> None:
    if rows.n_rows and not rows.n_found:
        raise UserError(
            f"{setting}.text_column: no row has this column",
            f"{params.text_column!r}; the first row has {', '.join(rows.names)}",
            "name the column that holds the text",
        )


def known_kinds() -> str:
    return " ".join((*PLAIN, *ROWS, PARQUET, *ARCHIVES))


def _problem(name: str, is_member: bool = False) -> str:
    """Why a file of this name can't be read; empty if it can."""
    kind, compression = split_name(name)
    if is_member and kind in ARCHIVES:
        return "an archive inside an archive"
    if compression and kind in (PARQUET, ".zip"):
        return f"a {kind} file can't be read from {compression}"
    return "" if kind in (*PLAIN, *ROWS, PARQUET, *ARCHIVES) else f"known are {known_kinds()}"


def _read(
    params: Text, system: Any, files: tuple[FoundFile, ...], n_hidden: int, origin: dict[str, object]
) -> Iterator[DocumentBatch]:
    """The batches of a part; the last one carries what is known only then."""
    columns = Columns()
    last: DocumentBatch | None = DocumentBatch([], [], {"hidden_files": n_hidden}, 0) if n_hidden else None
    for found in files:
        for batch in _read_file(params, system, found, columns):
            if last:
                yield last
            last = batch
    assert last, "every file yields a batch"
    yield last._replace(origins=[origin], rows=columns.totals())


def _read_file(params: Text, system: Any, found: FoundFile, columns: Columns) -> Iterator[DocumentBatch]:
    """Batches of one file; what breaks while it is read becomes a reject after what could be read."""
    problem = _problem(found.name)
    if problem:
        yield _batch(params, found.name, [Piece({}, reason="unknown_format", detail=problem)], found.n_bytes)
        return
    pieces: list[Piece] = []
    n_chars = n_read = 0
    counted: CountedFile | None = None
    try:
        with system.open(found.path, "rb") as file:
            counted = CountedFile(file)
            for piece in _pieces(params, counted, found.name, columns):
                pieces.append(piece)
                n_chars += len(piece.text)
                if len(pieces) >= BATCH_DOCS or n_chars >= BATCH_CHARS:
                    position = min(counted.n_read, found.n_bytes)
                    yield _batch(params, found.name, pieces, position - n_read)
                    pieces, n_chars, n_read = [], 0, max(position, n_read)
    except BombError as error:
        pieces.append(Piece({}, reason="decompression_bomb", detail=str(error)))
    except BROKEN as error:
        pieces.append(Piece({}, reason="unreadable", detail=f"{type(error).__name__}: {error}"))
    yield _batch(params, found.name, pieces, found.n_bytes - n_read)


def _pieces(params: Text, file: CountedFile, name: str, columns: Columns) -> Iterator[Piece]:
    kind, compression = split_name(name)
    if kind not in ARCHIVES:
        yield from read_pieces(kind, unpacked(file, compression), params, columns)
        return
    for member in members(file, kind, compression):
        where = {"member": member.name}
        problem = member.problem or _problem(member.name, is_member=True)
        if is_hidden(member.name):
            yield Piece(where, reason="hidden_file", detail="its name begins with a dot")
        elif problem:
            yield Piece(where, reason="not_a_file" if member.problem else "unknown_format", detail=problem)
        else:
            yield from _member_pieces(params, member, columns)


def _member_pieces(params: Text, member: Member, columns: Columns) -> Iterator[Piece]:
    """The pieces of one member; what is broken in it alone does not end the archive."""
    kind, compression = split_name(member.name)
    where = {"member": member.name}
    try:
        with member.read() as opened:
            stream: IO[bytes] = unpacked(CountedFile(opened), compression)
            if kind == PARQUET:  # its index stands at the end
                if member.n_bytes > params.max_member_bytes:
                    yield Piece(
                        where, reason="too_large", detail=f"more than max_member_bytes = {params.max_member_bytes}"
                    )
                    return
                stream = io.BytesIO(stream.read())
            for piece in read_pieces(kind, stream, params, columns):
                yield piece._replace(where={**where, **piece.where})
    except BROKEN as error:
        yield Piece(where, reason="unreadable", detail=f"{type(error).__name__}: {error}")


def _batch(params: Text, name: str, pieces: list[Piece], n_bytes: int) -> DocumentBatch:
    source = f"text/{params.name}"
    docs: list[Document] = []
    rejects: list[Reject] = []
    for piece in pieces:
        locator = dump_canonical_json(
            {"path": _printable(name), **{key: _printable(value) for key, value in piece.where.items()}}
        )
        if piece.reason:
            rejects.append(Reject(source, locator, piece.reason, _printable(piece.detail)))
        else:
            title = piece.title or _title(name, piece)
            docs.append(Document(source, locator, piece.text, title, piece.url, piece.license or params.license))
    return DocumentBatch(docs, rejects, {}, n_bytes)


def _title(name: str, piece: Piece) -> str:
    """`books.tar.gz/emma.txt#3`: the file, the member, the row or part."""
    place = "".join(f"#{piece.where[key]}" for key in ("row", "part") if key in piece.where)
    return _printable(name + (f"/{piece.where['member']}" if "member" in piece.where else "") + place)


def _printable(value: Any) -> Any:
    """File names need not be UTF-8: what is not is shown as `\\udc80`."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

"""Read the source `text`: the user's own files, folders, globs, archives and fsspec URLs.

In: `.txt .md .rst` (one document per file, or one per piece between `split_on`), `.jsonl .json .csv .tsv .parquet .arrow` (one
document per row), plain or `.gz .bz2 .xz .zst .lz4`, alone or as members of `.tar` (also compressed) and `.zip`; `format` overrides
the endings. Out: documents, and a reject with its reason for everything that could not be read. Files in a folder whose names begin
with a dot are counted and skipped.
A source is read in parts of about `PART_BYTES` of files. Time: O(n). Memory: one document (at most `max_member_bytes`) and one
batch; nothing is extracted to disk.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import xxhash
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from pipeline.download.links import find_source_files
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
from pipeline.download.readers.records import LOOSE, PLAIN, Columns, Piece, read_pieces
from pipeline.frame.errors import UserError
from pipeline.storage.files import FoundFile, is_hidden
from pipeline.storage.pointers import POINTER_BYTES, find_pointer
from pipeline.storage.rows import BROKEN, COLUMNS, ROWS
from pipeline.storage.streams import (
    ARCHIVES,
    START_BYTES,
    BombError,
    CountedFile,
    Member,
    decompress,
    name_compression,
    read_members,
    split_name,
)
from pipeline.workers.results import hash_file

BATCH_DOCS = 2_048
BATCH_CHARS = 8_000_000
PART_BYTES = 64_000_000  # the most that a resumed run has to read again
PART_FILES = 4_096


def open_source(params: Text, setting: str) -> Reading:
    """Find the files of the source and open them in parts. Raise `UserError` if there are none."""
    system, files, n_hidden = find_source_files(params.path, f"{setting}.path")
    if (
        _check_name(params, files[0].name) and files[0].path == url_to_fs(params.path)[1]
    ):  # the path is this file, not a folder
        raise UserError(
            f"{setting}.path: unsupported file format",
            repr(params.path),
            f"convert it to one of {list_formats()}",
        )
    has_others = any(_split_name(params, file.name)[0] in (*PLAIN, *ROWS, *ARCHIVES) for file in files) and not all(
        _split_name(params, file.name)[0] in LOOSE for file in files if not _check_name(params, file.name)
    )
    parts = [
        SourcePart(
            sum(file.n_bytes for file in group),
            partial(_open_part, params, system, group, 0 if at else n_hidden, has_others),
        )
        for at, group in enumerate(_group_files(files))
    ]
    check = partial(_check_columns, params, setting)
    return Reading(sum(part.n_bytes for part in parts), read_parts(parts, check), parts, check)


def _group_files(files: list[FoundFile]) -> Iterator[tuple[FoundFile, ...]]:
    """Group consecutive files up to `PART_BYTES`; a larger file is a group of its own."""
    group: list[FoundFile] = []
    n_bytes = 0
    for file in files:
        if group and (n_bytes + file.n_bytes > PART_BYTES or len(group) == PART_FILES):
            yield tuple(group)
            group, n_bytes = [], 0
        group.append(file)
        n_bytes += file.n_bytes
    yield tuple(group)


def _open_part(params: Text, system: Any, files: tuple[FoundFile, ...], n_hidden: int, has_others: bool) -> Opened:
    """Open a part under a key of its bytes. Local files are hashed; for remote ones the file system's version is used."""
    hashes = [compute_content_key(system, file) for file in files]
    settings = params.model_dump(exclude={"path"})  # the location of the files makes no difference
    content = [[_escape(file.name), file.n_bytes, key] for file, key in zip(files, hashes, strict=True)]
    key = dump_canonical_json({"settings": settings, "hidden": n_hidden, "content": content, "others": has_others})
    batches = _read_files(params, system, files, n_hidden, describe_files(files, hashes), has_others)
    return Opened(key if all(hashes) else "", batches)


def compute_content_key(system: Any, file: FoundFile) -> str:
    """Return a key of the file's bytes: the hash of a local file, the version that a remote file system reports; else empty."""
    if file.reason:
        return ""  # a pipe would never end
    if not isinstance(system, LocalFileSystem):
        return file.version
    try:
        return hash_file(Path(file.path), "")
    except OSError:
        return ""  # becomes a reject when it is read


def describe_files(files: tuple[FoundFile, ...], hashes: list[str]) -> dict[str, object]:
    """Return the provenance record: a large file by its name, a group of small ones by the range of their names."""
    total = sum(file.n_bytes for file in files)
    if len(files) == 1:
        return {"path": _escape(files[0].name), "bytes": total, "content": hashes[0]}
    names = [_escape(file.name) for file in files]
    content = xxhash.xxh3_128_hexdigest("\0".join((*names, *hashes)).encode())
    return {"first": names[0], "last": names[-1], "files": len(files), "bytes": total, "content": content}


def _check_columns(params: Text, setting: str, rows: RowFormat) -> None:
    if rows.n_rows and not rows.n_found:
        raise UserError(
            f"{setting}.text_column: no row has this column",
            f"{params.text_column!r}; the first row has {', '.join(rows.names)}",
            'set it to the column that holds the text; in a table without a header to its number, such as "1"',
        )


def list_formats() -> str:
    """Return the supported file formats as one text."""
    return " ".join((*PLAIN, *ROWS, *ARCHIVES))


def _split_name(params: Text, name: str) -> tuple[str, str]:
    """Return (kind, compression) of a file: as the setting says, else by its name."""
    return split_name(f"x.{params.format}" if params.format else name)


def _check_name(params: Text, name: str) -> str:
    """Return why a file of this name cannot be read; empty if it can."""
    kind, compression = _split_name(params, name)
    if compression and kind == ".zip":
        return f"a {kind} file can't be read from {compression}"
    if kind == ".dvc":
        return "a pointer of DVC: fetch the file with `dvc pull`"
    return "" if kind in (*PLAIN, *ROWS, *ARCHIVES) else f"known are {list_formats()}"


def _check_member(name: str) -> str:
    """Return why a member of this name cannot be read; empty if it can."""
    kind, compression = split_name(name)
    if kind in ARCHIVES:
        return "an archive inside an archive"
    if compression and kind in COLUMNS:
        return f"a {kind} file can't be read from {compression} inside an archive"
    return "" if kind in (*PLAIN, *ROWS) else f"known are {list_formats()}"


def _read_files(
    params: Text,
    system: Any,
    files: tuple[FoundFile, ...],
    n_hidden: int,
    origin: dict[str, object],
    has_others: bool,
) -> Iterator[DocumentBatch]:
    """Yield the batches of a part; the last one carries the provenance and the row counts."""
    columns = Columns(has_others)
    last: DocumentBatch | None = DocumentBatch([], [], {"hidden_files": n_hidden}, 0) if n_hidden else None
    for found in files:
        for batch in _read_file(params, system, found, columns):
            if last:
                yield last
            last = batch
    assert last, "every file yields a batch"
    yield last._replace(origins=[origin], rows=columns.make_row_format())


def _read_file(params: Text, system: Any, found: FoundFile, columns: Columns) -> Iterator[DocumentBatch]:
    """Yield the batches of one file; an error while it is read becomes a reject after everything that could be read."""
    problem = found.detail or _check_name(params, found.name)
    if problem:
        piece = Piece({}, reason=found.reason or "unknown_format", detail=problem)
        yield _make_batch(params, found.name, [piece], found.n_bytes)
        return
    pieces: list[Piece] = []
    n_chars = n_read = 0
    counted: CountedFile | None = None
    try:
        with system.open(found.path, "rb") as file:
            counted = CountedFile(file, params.max_window_bytes)
            for piece in _read_pieces(params, counted, found, columns):
                pieces.append(piece)
                n_chars += len(piece.text)
                if len(pieces) >= BATCH_DOCS or n_chars >= BATCH_CHARS:
                    position = min(counted.n_read, found.n_bytes)
                    yield _make_batch(params, found.name, pieces, position - n_read)
                    pieces, n_chars, n_read = [], 0, max(position, n_read)
    except BombError as error:
        pieces.append(Piece({}, reason="decompression_bomb", detail=str(error)))
    except BROKEN as error:
        pieces.append(Piece({}, reason="unreadable", detail=f"{type(error).__name__}: {error}"))
    yield _make_batch(params, found.name, pieces, found.n_bytes - n_read)


def _read_pieces(params: Text, file: CountedFile, found: FoundFile, columns: Columns) -> Iterator[Piece]:
    kind, compression = _split_name(params, found.name)
    if pointer := find_pointer(file, found.n_bytes):
        yield Piece({}, reason="pointer_file", detail=pointer)
    elif kind in ARCHIVES:
        for member in read_members(file, kind, compression):
            yield from _read_checked_member(params, member, columns)
    else:
        yield from _read_stream(kind, decompress(file, compression), params, columns)
    if file.trailing:
        yield Piece({}, reason="trailing_bytes", detail=file.trailing)


def _read_stream(kind: str, stream: Any, params: Text, columns: Columns) -> Iterator[Piece]:
    """Yield the pieces of a decompressed stream, unless it is still compressed."""
    if kind not in COLUMNS and (packed := name_compression(stream.peek(START_BYTES))):
        detail = f"it is a {packed} file: rename it, or set `format` of the source to {kind[1:]}{packed}"
        yield Piece({}, reason="unreadable", detail=detail)
    else:
        yield from read_pieces(kind, stream, params, columns)


def _read_checked_member(params: Text, member: Member, columns: Columns) -> Iterator[Piece]:
    where = {"member": member.name}
    problem = member.problem or _check_member(member.name)
    if is_hidden(member.name):
        yield Piece(where, reason="hidden_file", detail="its name begins with a dot")
    elif problem:
        yield Piece(where, reason="not_a_file" if member.problem else "unknown_format", detail=problem)
    else:
        for piece in _read_member(params, member, columns):
            yield piece._replace(where={**where, **piece.where})


def _read_member(params: Text, member: Member, columns: Columns) -> Iterator[Piece]:
    """Yield the pieces of one member; an error inside it does not end the archive."""
    kind, compression = split_name(member.name)
    try:
        with member.read() as opened:
            counted = CountedFile(io.BytesIO(opened.read()) if _is_small(params, member, kind) else opened)
            counted.window_bytes = params.max_window_bytes
            if pointer := find_pointer(counted, member.n_bytes):
                yield Piece({}, reason="pointer_file", detail=pointer)
            elif kind in COLUMNS and member.n_bytes > params.max_member_bytes:  # its index is at the end
                yield Piece({}, reason="too_large", detail=f"more than max_member_bytes = {params.max_member_bytes}")
            else:
                yield from _read_stream(kind, decompress(counted, compression), params, columns)
            if counted.trailing:
                yield Piece({}, reason="trailing_bytes", detail=counted.trailing)
    except BombError:
        raise
    except BROKEN as error:
        yield Piece({}, reason="unreadable", detail=f"{type(error).__name__}: {error}")


def _is_small(params: Text, member: Member, kind: str) -> bool:
    """Return whether a member is read into memory: a possible pointer, or Parquet and Arrow within the limit."""
    return member.n_bytes <= (params.max_member_bytes if kind in COLUMNS else POINTER_BYTES)


def _make_batch(params: Text, name: str, pieces: list[Piece], n_bytes: int) -> DocumentBatch:
    source = f"text/{params.name}"
    docs: list[Document] = []
    rejects: list[Reject] = []
    for piece in pieces:
        locator = dump_canonical_json(
            {"path": _escape(name), **{key: _escape(value) for key, value in piece.where.items()}}
        )
        if piece.reason:
            rejects.append(Reject(source, locator, piece.reason, _escape(piece.detail)))
        else:
            title = piece.title or _make_title(name, piece)
            docs.append(Document(source, locator, piece.text, title, piece.url, piece.license or params.license))
    return DocumentBatch(docs, rejects, {}, n_bytes)


def _make_title(name: str, piece: Piece) -> str:
    """Return a title such as `books.tar.gz/emma.txt#3`: the file, the member, the row or part."""
    position = "".join(f"#{piece.where[key]}" for key in ("row", "part") if key in piece.where)
    return _escape(name + (f"/{piece.where['member']}" if "member" in piece.where else "") + position)


def _escape(value: Any) -> Any:
    """Escape bytes of a file name that are not UTF-8, as in `\\udc80`; return other values unchanged."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value

"""Read the records of web archives, WARC and WET, with FastWARC.

In: an open file, plain or compressed: `.gz` (one member per record, or one for all), `.zst`, `.lz4`, also `.bz2` and `.xz` as a
whole. The format is detected from the first bytes, not from the name. Out, in the order of the file: a `Record` that may hold a
page, a `Skipped` for other records, a `Problem` for broken ones. After broken bytes, reading continues at the next head of a record
that can be found, at the start of a compressed member or anywhere in a plain file; each search begins behind the one before.
Memory: one record of at most `max_bytes`; longer ones are skipped. Time: O(n).
Covers (hostile input): records that decompress to more than `streams.MAX_RATIO` times the file (`BombError`), heads without end,
bytes that look like the start of a record everywhere. Does not cover: `.zst` with a dictionary of its own that is itself
compressed; in a file compressed as a whole, the records after broken bytes (they are lost) and the positions of records (`offset`
is how far the file had been read); in a file whose heads have bare line feeds, which FastWARC reads in a mode that skips broken
records, a count of those.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import IO, Any, NamedTuple

import lz4.frame
import zstandard
from fastwarc.warc import ArchiveIterator  # pyright: ignore[reportMissingModuleSource]

from pipeline.download.readers.chunks import BROKEN, Problem
from pipeline.storage.streams import MAX_RATIO, RATIO_SLACK_BYTES, BombError, CountedFile, decompress

BLOCK_BYTES = 1 << 20
SNIFFED_BYTES = 8
MAGIC = {
    b"\x1f\x8b\x08": ".gz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\x04\x22\x4d\x18": ".lz4",
    b"BZh": ".bz2",
    b"\xfd7zXZ": ".xz",
    b"\x5d\x2a\x4d\x18": ".zst",  # preceded by a dictionary
}
# How a record may begin: what to search for after broken bytes.
STARTS = {"": b"WARC/", ".gz": b"\x1f\x8b\x08", ".zst": b"\x28\xb5\x2f\xfd", ".lz4": b"\x04\x22\x4d\x18"}
ENDED: Mapping[str, Callable[[], Any]] = {
    ".gz": partial(zlib.decompressobj, 31),
    ".lz4": lz4.frame.LZ4FrameDecompressor,
}
MEMBERS: Mapping[str, Callable[[], Any]] = {
    **ENDED,
    ".zst": lambda: zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj(),
}
MAX_WINDOW_BYTES = 1 << 27
MAX_HEAD_BYTES = 65_536
PEEKED_BYTES = (
    512,
    8_192,
    180_000,
)  # of a compressed member, until its first line comes out: zstd has blocks of 128 KiB
BARE_HEAD = re.compile(rb"\s*WARC/\d\.\d+\n")
HEAD = re.compile(rb"WARC/\d\.\d+\r?\n")
HEAD_END = re.compile(rb"\r?\n\r?\n")
ARC = b"filedesc://"
PIECE_BYTES = 4_096  # decompresses to a few MB at most
KINDS = ("response", "resource", "conversion")
INNER_RECORD = b"\r\n\r\nWARC/1."


class Record(NamedTuple):
    """A record that may hold a page, with its block as archived (for `response`: HTTP head and body)."""

    offset: int  # of the record, or of the compressed member that contains it
    id: str
    kind: str  # response | resource | conversion
    url: str
    content_type: str
    block: bytes


class Skipped(NamedTuple):
    """A record without a page; `kind` is its type."""

    kind: str


Item = Record | Skipped | Problem


def read_archive(file: CountedFile, max_bytes: int) -> Iterator[Item]:
    """Yield the records of a WARC file. Raise one of `BROKEN` where nothing more can be read."""
    head = file.read(SNIFFED_BYTES)
    compression = next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")
    file.seek(0)
    start = _read_start(file, compression)
    if start.startswith(ARC):
        yield Problem({}, "unknown_format", "an ARC file; convert it to WARC, for example with `warcio recompress`")
        return
    file.seek(0)
    readable: Any = file if compression in STARTS else _Forward(decompress(file, compression))
    is_bare = bool(BARE_HEAD.match(start))
    yield from _Warc(readable, compression, max_bytes, is_bare=is_bare).read_items()


def _read_start(file: CountedFile, compression: str) -> bytes:
    """Return the first decompressed bytes; none if they cannot be decompressed."""
    try:
        return decompress(file, compression).read(SNIFFED_BYTES * 2)
    except BROKEN:
        return b""


class _Forward:
    """A forward-only stream with the methods that fastwarc requires."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.position = 0

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.position += len(data)
        return data

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence or offset != self.position:
            raise io.UnsupportedOperation("a decompressed stream cannot be rewound")
        return offset


class _Warc:
    """Reads one WARC file record by record and resynchronizes after broken bytes."""

    def __init__(self, file: Any, compression: str, max_bytes: int, *, is_bare: bool) -> None:
        self.file, self.compression, self.max_bytes, self.is_bare = file, compression, max_bytes, is_bare
        self.n_decompressed = 0
        self.last = 0  # offset of the last record

    def read_items(self) -> Iterator[Item]:
        """Yield all items; consecutive broken bytes give one problem."""
        start: int | None = 0
        is_lost = False
        while start is not None:
            self.file.seek(start)
            self.last = max(self.last, start)
            problem: Problem | None = None
            for item in self._read_until_broken():
                if isinstance(item, Problem) and item.reason in ("broken_record", "clipped_record"):
                    problem = item
                else:
                    is_lost = False
                    yield item
            if problem and not (is_lost and problem.reason == "broken_record"):  # one reject per run of broken bytes
                yield problem
            is_lost = problem is not None
            start = self._find_next_start(max(self.last, start) + 1) if problem else None
        if not is_lost and not self._is_complete():
            yield Problem({"offset": self.last}, "clipped_record", "the packed file ended before its end marker")

    def _read_until_broken(self) -> Iterator[Item]:
        """Yield items from the current position; a problem ends them."""
        held: Item | None = None  # until the start of the next record confirms its length
        try:
            options: Any = {"parse_http": False, "quirks_mode": self.is_bare, "max_header_len": MAX_HEAD_BYTES}
            for record in ArchiveIterator(self.file, **options):
                if held is not None:
                    yield held
                held = None
                held = self._make_item(record)
                if isinstance(held, Problem) and held.reason == "clipped_record":
                    break
        except OSError as error:
            if isinstance(held, Record) and INNER_RECORD in held.block:
                where = {"offset": held.offset, "record": held.id}
                held = Problem(where, "broken_record", "its length reaches into the next record")
            else:
                if held is not None:
                    yield held
                held = Problem({"offset": self.last}, "broken_record", str(error))
        except BROKEN:
            if held is not None:
                yield held
            raise
        if held is not None:
            yield held

    def _make_item(self, record: Any) -> Item:
        self.last = record.stream_pos
        kind, length = str(record.record_type), record.content_length
        if not length and "Content-Length" not in record.headers:
            return Problem(self._get_location(record), "clipped_record", "no Content-Length in its head")
        if kind not in KINDS:
            n_read = self._skip_block(record.reader)
            return Skipped(kind) if n_read == length else _make_clipped(self._get_location(record), n_read, length)
        if length > self.max_bytes:
            n_read = self._skip_block(record.reader)
            detail = f"{length} bytes, more than max_member_bytes = {self.max_bytes}"
            where = self._get_location(record)
            return Problem(where, "too_large", detail) if n_read == length else _make_clipped(where, n_read, length)
        block = record.reader.read(length)
        self._count(len(block))
        if len(block) < length:
            return _make_clipped(self._get_location(record), len(block), length)
        headers = record.headers
        url = (headers.get("WARC-Target-URI") or "").strip().strip("<>")
        return Record(self.last, record.record_id or "", kind, url, headers.get("Content-Type") or "", block)

    def _get_location(self, record: Any) -> dict[str, object]:
        return {"offset": self.last, "record": record.record_id or ""}

    def _skip_block(self, reader: Any) -> int:
        n_read = 0
        while block := reader.read(BLOCK_BYTES):
            self._count(len(block))
            n_read += len(block)
        return n_read

    def _count(self, n_bytes: int) -> None:
        self.n_decompressed += n_bytes
        n_read = self.file.n_read if isinstance(self.file, CountedFile) else self.n_decompressed
        if self.n_decompressed > RATIO_SLACK_BYTES + MAX_RATIO * n_read:
            raise BombError(f"{self.n_decompressed} bytes came out of {n_read}")

    def _is_complete(self) -> bool:
        """Return whether the compressed members from the last record on have an end. In a file compressed as a whole, where they
        begin is unknown; it counts as complete."""
        if self.compression not in ENDED:
            return True
        self.file.seek(self.last)
        member: Any = None
        data = self.file.read(PIECE_BYTES)
        if not data.startswith(STARTS[self.compression]):
            return True
        while data:
            member = member or ENDED[self.compression]()
            member.decompress(data)
            data = member.unused_data if member.eof else b""
            member = None if member.eof else member
            data = data or self.file.read(PIECE_BYTES)
        return member is None

    def _find_next_start(self, position: int) -> int | None:
        """Return where the next record begins, from a position on, or None."""
        if self.compression not in STARTS:
            return None
        magic = STARTS[self.compression]
        window, is_end = b"", False
        while not is_end:
            self.file.seek(position + len(window))
            block = self.file.read(BLOCK_BYTES)
            window, is_end = window + block, not block
            searched = len(window) if is_end else max(len(window) - PEEKED_BYTES[-1], 0)
            at = window.find(magic)
            while 0 <= at < searched:
                if self._is_start(window, at):
                    return position + at
                at = window.find(magic, at + 1)
            position, window = position + searched, window[searched:]
        return None

    def _is_start(self, window: bytes, at: int) -> bool:
        """Return whether a record begins there: a complete head, or a compressed member that begins like one."""
        if self.compression:
            return self._is_member(window, at)
        if not HEAD.match(window, at):
            return False
        following = window.find(STARTS[""], at + 1, at + MAX_HEAD_BYTES)
        end = HEAD_END.search(window, at, following if following >= 0 else at + MAX_HEAD_BYTES)
        return bool(end) and b"\ncontent-length:" in window[at : end.end()].lower()

    def _is_member(self, window: bytes, at: int) -> bool:
        for n_bytes in PEEKED_BYTES:
            try:
                start = MEMBERS[self.compression]().decompress(window[at : at + n_bytes])
            except BROKEN:
                return False
            if start:
                return start.startswith(STARTS[""])
        return True  # it may have larger blocks


def _make_clipped(where: Mapping[str, object], n_read: int, length: int) -> Problem:
    return Problem(where, "clipped_record", f"{n_read} of {length} bytes")

"""Read the records of web archives, WARC and WET, with FastWARC.

In: an open file, plain or compressed: `.gz` (one member per record, or one for all), `.zst`, `.lz4`, also `.bz2` and `.xz` as a
whole. The format is detected from the first bytes, not from the name. Out, in the order of the file: a `Record` that may hold a
page, a `Skipped` for other records, a `Problem` for broken ones. After broken bytes, reading continues at the next record that can
be found: at the next compressed member, or at the next `WARC/` at the start of a line. Memory: one record of at most `max_bytes`;
longer ones are skipped. Time: O(n).
Covers (hostile input): records that decompress to more than `streams.MAX_RATIO` times the file (`BombError`). Does not cover:
`.zst` with a dictionary of its own that is itself compressed; in a file compressed as a whole, the records after broken bytes (they
are lost) and the positions of records (`offset` is how far the file had been read).
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import IO, Any, NamedTuple

import lz4.frame
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
# Where a record may begin: what to search for after broken bytes, and the offset of the record in the match.
STARTS = {
    "": (b"\nWARC/", 1),
    ".gz": (b"\x1f\x8b\x08", 0),
    ".zst": (b"\x28\xb5\x2f\xfd", 0),
    ".lz4": (b"\x04\x22\x4d\x18", 0),
}
ENDED: Mapping[str, Callable[[], Any]] = {
    ".gz": partial(zlib.decompressobj, 31),
    ".lz4": lz4.frame.LZ4FrameDecompressor,
}
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
    readable: Any = file if compression in STARTS else _Forward(decompress(file, compression))
    yield from _Warc(readable, compression, max_bytes).read_items()


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

    def __init__(self, file: Any, compression: str, max_bytes: int) -> None:
        self.file, self.compression, self.max_bytes = file, compression, max_bytes
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
            start = self._find_next_start() if problem else None
        if not is_lost and not self._is_complete():
            yield Problem({"offset": self.last}, "clipped_record", "the packed file ended before its end marker")

    def _read_until_broken(self) -> Iterator[Item]:
        """Yield items from the current position; a problem ends them."""
        held: Item | None = None  # until the start of the next record confirms its length
        try:
            for record in ArchiveIterator(self.file, parse_http=False):
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
        if not data.startswith(STARTS[self.compression][0]):
            return True
        while data:
            member = member or ENDED[self.compression]()
            member.decompress(data)
            data = member.unused_data if member.eof else b""
            member = None if member.eof else member
            data = data or self.file.read(PIECE_BYTES)
        return member is None

    def _find_next_start(self) -> int | None:
        """Return where the next record may begin after the last one, or None. A false candidate leads to the next search."""
        if self.compression not in STARTS:
            return None
        magic, skip = STARTS[self.compression]
        position = self.last + 1
        self.file.seek(position)
        tail = b""
        while block := self.file.read(BLOCK_BYTES):
            index = (tail + block).find(magic)
            if index >= 0:
                return position - len(tail) + index + skip
            position += len(block)
            tail = (tail + block)[-len(magic) :]
        return None


def _make_clipped(where: Mapping[str, object], n_read: int, length: int) -> Problem:
    return Problem(where, "clipped_record", f"{n_read} of {length} bytes")

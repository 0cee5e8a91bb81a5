"""Read the records of web archives, WARC and WET, with FastWARC.

In: an open file, plain or packed: `.gz` (a member a record, or one for all), `.zst`, `.lz4`, also `.bz2` and `.xz` around
everything. What a file is its first bytes say, not its name. Out, in the file's order: a `Record` for what may hold a page, a
`Skipped` for what does not, a `Problem` for what is broken. After broken bytes reading goes on at the next record that can be
found: at the next packed member, or at the next `WARC/` at the start of a line. Memory: one record of at most `max_bytes`;
longer ones are stepped over. Order n.
Covered against hostile input: records that unpack to more than `streams.MAX_RATIO` times the file (`BombError`). Not
covered: `.zst` with a dictionary of its own that is itself packed; in a file packed as one, what follows broken bytes (it is lost)
and where records begin (`offset` tells how far the file had been read).
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
from pipeline.storage.streams import MAX_RATIO, RATIO_SLACK_BYTES, BombError, CountedFile, unpacked

BLOCK_BYTES = 1 << 20
SNIFFED_BYTES = 8
MAGIC = {
    b"\x1f\x8b\x08": ".gz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\x04\x22\x4d\x18": ".lz4",
    b"BZh": ".bz2",
    b"\xfd7zXZ": ".xz",
    b"\x5d\x2a\x4d\x18": ".zst",  # a dictionary comes first
}
# Where a record may begin: what to look for after broken bytes, and how far behind its start the match lies.
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
PIECE_BYTES = 4_096  # unpacks to a few MB at most
KINDS = ("response", "resource", "conversion")
INNER_RECORD = b"\r\n\r\nWARC/1."


class Record(NamedTuple):
    """What may hold a page: the record's block as it is archived (for `response`: HTTP head and body)."""

    offset: int  # of the record, or of the packed member that it is in
    id: str
    kind: str  # response | resource | conversion
    url: str
    content_type: str
    block: bytes


class Skipped(NamedTuple):
    """A record that holds no page, by its type."""

    kind: str


Item = Record | Skipped | Problem


def read_archive(file: CountedFile, max_bytes: int) -> Iterator[Item]:
    """Yield the records of a WARC file. Raises one of `BROKEN` where nothing more can be read."""
    head = file.read(SNIFFED_BYTES)
    packing = next((name for magic, name in MAGIC.items() if head.startswith(magic)), "")
    file.seek(0)
    readable: Any = file if packing in STARTS else _Forward(unpacked(file, packing))
    yield from _Warc(readable, packing, max_bytes).items()


class _Forward:
    """A stream that can't go back, with the methods that fastwarc asks for."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.at = 0

    def read(self, size: int = -1) -> bytes:
        data = self.stream.read(size)
        self.at += len(data)
        return data

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence or offset != self.at:
            raise io.UnsupportedOperation("what was unpacked can't be read again")
        return offset


class _Warc:
    """One WARC file being read, from record to record and past what is broken."""

    def __init__(self, file: Any, packing: str, max_bytes: int) -> None:
        self.file, self.packing, self.max_bytes = file, packing, max_bytes
        self.n_unpacked = 0
        self.last = 0  # where the last record began

    def items(self) -> Iterator[Item]:
        start: int | None = 0
        is_lost = False
        while start is not None:
            self.file.seek(start)
            self.last = max(self.last, start)
            problem: Problem | None = None
            for item in self._until_broken():
                if isinstance(item, Problem) and item.reason in ("broken_record", "clipped_record"):
                    problem = item
                else:
                    is_lost = False
                    yield item
            if problem and not (is_lost and problem.reason == "broken_record"):  # one reject for one stretch of bytes
                yield problem
            is_lost = problem is not None
            start = self._next_start() if problem else None
        if not is_lost and not self._is_whole():
            yield Problem({"offset": self.last}, "clipped_record", "the packed file ended before its end marker")

    def _until_broken(self) -> Iterator[Item]:
        """The records from here on; the last one is a problem that ends them, if there is one."""
        held: Item | None = None  # until what follows proves its length right
        try:
            for record in ArchiveIterator(self.file, parse_http=False):
                if held is not None:
                    yield held
                held = None
                held = self._item(record)
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

    def _item(self, record: Any) -> Item:
        self.last = record.stream_pos
        kind, length = str(record.record_type), record.content_length
        if not length and "Content-Length" not in record.headers:
            return Problem(self._where(record), "clipped_record", "no Content-Length in its head")
        if kind not in KINDS:
            n_read = self._step_over(record.reader)
            return Skipped(kind) if n_read == length else _clipped(self._where(record), n_read, length)
        if length > self.max_bytes:
            n_read = self._step_over(record.reader)
            detail = f"{length} bytes, more than max_member_bytes = {self.max_bytes}"
            where = self._where(record)
            return Problem(where, "too_large", detail) if n_read == length else _clipped(where, n_read, length)
        block = record.reader.read(length)
        self._count(len(block))
        if len(block) < length:
            return _clipped(self._where(record), len(block), length)
        headers = record.headers
        url = (headers.get("WARC-Target-URI") or "").strip().strip("<>")
        return Record(self.last, record.record_id or "", kind, url, headers.get("Content-Type") or "", block)

    def _where(self, record: Any) -> dict[str, object]:
        return {"offset": self.last, "record": record.record_id or ""}

    def _step_over(self, reader: Any) -> int:
        n_read = 0
        while block := reader.read(BLOCK_BYTES):
            self._count(len(block))
            n_read += len(block)
        return n_read

    def _count(self, n_bytes: int) -> None:
        self.n_unpacked += n_bytes
        n_read = self.file.n_read if isinstance(self.file, CountedFile) else self.n_unpacked
        if self.n_unpacked > RATIO_SLACK_BYTES + MAX_RATIO * n_read:
            raise BombError(f"{self.n_unpacked} bytes came out of {n_read}")

    def _is_whole(self) -> bool:
        """Whether the packed members from the last record on have an end; where they begin is not known of a file packed as one."""
        if self.packing not in ENDED:
            return True
        self.file.seek(self.last)
        member: Any = None
        data = self.file.read(PIECE_BYTES)
        if not data.startswith(STARTS[self.packing][0]):
            return True
        while data:
            member = member or ENDED[self.packing]()
            member.decompress(data)
            data = member.unused_data if member.eof else b""
            member = None if member.eof else member
            data = data or self.file.read(PIECE_BYTES)
        return member is None

    def _next_start(self) -> int | None:
        """Where the next record may begin after the last one; a candidate that fails is left for the one after it."""
        if self.packing not in STARTS:
            return None
        magic, skip = STARTS[self.packing]
        at = self.last + 1
        self.file.seek(at)
        tail = b""
        while block := self.file.read(BLOCK_BYTES):
            found = (tail + block).find(magic)
            if found >= 0:
                return at - len(tail) + found + skip
            at += len(block)
            tail = (tail + block)[-len(magic) :]
        return None


def _clipped(where: Mapping[str, object], n_read: int, length: int) -> Problem:
    return Problem(where, "clipped_record", f"{n_read} of {length} bytes")

"""Read compressed files and archive members as byte streams, without writing to disk and with one block in memory.

In: an open file and its name. Out: readable streams, one for a plain or compressed file, one per member for .tar and .zip.
Names determine the format: `.gz .bz2 .xz .zst .lz4` (and `.lzma .zstd`) around anything, `.tgz .tbz2 .txz .tzst` for `.tar.gz` and
so on. A truncated stream is an error after everything before the break, never a short text; bytes behind the end of the compressed
data are not read and described in `CountedFile.trailing`. Covers hostile input: path traversal (nothing is written), links and
devices (never followed), decompression bombs of more than `MAX_RATIO` times the file (`BombError`), nested archives (refused). Does
not cover: tar headers that declare a name of gigabytes.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import lz4.frame
import zstandard

MAX_RATIO = 200  # text compresses to a twentieth at best; gzip could compress zeros to a thousandth
RATIO_SLACK_BYTES = 100_000_000  # small files may exceed the ratio
BLOCK_BYTES = 1 << 16
WINDOW_BYTES = 1 << 27  # the most that a zstd frame may take without a setting, as with the zstd command
MAX_WINDOW_BYTES = 1 << 31
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4")
ALIASES = {".gzip": ".gz", ".bzip2": ".bz2", ".lzma": ".xz", ".zstd": ".zst"}
TARS = {
    **dict.fromkeys((".tgz", ".taz"), ".gz"),
    **dict.fromkeys((".tbz2", ".tbz", ".tb2"), ".bz2"),
    **dict.fromkeys((".txz", ".tlz"), ".xz"),
    **dict.fromkeys((".tzst", ".tzstd"), ".zst"),
}
ARCHIVES = (".tar", ".zip")

BROKEN = (
    *(EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError, tarfile.TarError, zipfile.BadZipFile),
    *(NotImplementedError, RuntimeError),  # zip: an unknown method, or a password; lz4: all errors
)
BROKEN_ZIP = (IndexError, KeyError, ValueError, OverflowError, TypeError, AttributeError, struct.error)


class BombError(Exception):
    """Report a file that decompresses to far more than any text does."""


class Member(NamedTuple):
    """Describe a file in an archive, or the reason why it can't be read; `read` is valid until the next member."""

    name: str
    n_bytes: int
    problem: str
    read: Callable[[], IO[bytes]]


def split_name(name: str) -> tuple[str, str]:
    """Return (kind, compression) of a file name: `corpus.txt.gz` → (`.txt`, `.gz`); `.tgz` counts as `.tar.gz`."""
    stem, last = _split_ending(name.lower().rpartition("/")[2])
    if last in TARS:
        return ".tar", TARS[last]
    compression = ALIASES.get(last, last)
    return (_split_ending(stem)[1], compression) if compression in COMPRESSIONS else (last, "")


def _split_ending(name: str) -> tuple[str, str]:
    stem, dot, ending = name.rpartition(".")
    return (stem, dot + ending) if dot else (name, "")


class CountedFile(io.RawIOBase):
    """Wrap an open file, count the bytes read from it, and note what could not be decompressed behind its end."""

    def __init__(self, file: IO[bytes], window_bytes: int = WINDOW_BYTES) -> None:
        self.file, self.window_bytes = file, window_bytes  # the memory that a zstd frame may take
        self.n_read = 0
        self.trailing = ""  # describes bytes behind the end of the compressed data

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        self.n_read += len(data)
        return len(data)


class _Decompressed(io.RawIOBase):
    """Read the decompressed bytes of `source`. Raises `BombError` if they exceed `MAX_RATIO` times the compressed ones."""

    def __init__(self, source: IO[bytes], packed: CountedFile) -> None:
        self.source, self.packed = source, packed
        self.n_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self.source.read(len(buffer))
        buffer[: len(data)] = data
        self.n_bytes += len(data)
        if self.n_bytes > RATIO_SLACK_BYTES + MAX_RATIO * self.packed.n_read:
            raise BombError(f"{self.packed.n_read} bytes decompress to {self.n_bytes}")
        return len(data)


class Codec(NamedTuple):
    """A compression: what its frames begin with, how to make a decompressor, and how much to feed it at once."""

    name: str
    starts: re.Pattern[bytes]
    new: Callable[[int], Any]
    piece_bytes: int = BLOCK_BYTES
    has_padding: bool = False  # zeros between and behind frames
    is_bounded: bool = True  # its output can be limited


CODECS = {
    ".gz": Codec("gzip", re.compile(rb"\x1f\x8b"), lambda _: zlib.decompressobj(31), has_padding=True),
    ".bz2": Codec("bzip2", re.compile(rb"BZh"), lambda _: bz2.BZ2Decompressor()),
    ".xz": Codec(
        "xz", re.compile(rb"\xfd7zXZ|[\x00-\xe0]\x00\x00"), lambda _: lzma.LZMADecompressor(), has_padding=True
    ),
    ".zst": Codec(  # decompresses a piece at once, to at most a megabyte or so
        "zstd",
        re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL),
        lambda window_bytes: zstandard.ZstdDecompressor(max_window_size=window_bytes).decompressobj(),
        4_096,
        is_bounded=False,
    ),
    ".lz4": Codec(
        "lz4",
        re.compile(rb"\x04\x22\x4d\x18|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL),
        lambda _: lz4.frame.LZ4FrameDecompressor(),
    ),
}
START_BYTES = 6  # as long as the longest start of a frame
MAGIC = {  # that no text begins with
    b"\x1f\x8b\x08": ".gz",
    b"BZh91AY&SY": ".bz2",
    b"\xfd7zXZ\x00": ".xz",
    b"\x28\xb5\x2f\xfd": ".zst",
    b"\x04\x22\x4d\x18": ".lz4",
    b"PK\x03\x04": ".zip",
}


class _Frames(io.RawIOBase):
    """Decompress consecutive frames; unlike the libraries' own readers, this returns everything before a break, detects a truncated
    frame, skips padding, and stops at bytes that begin no frame."""

    def __init__(self, file: CountedFile, codec: Codec) -> None:
        self.file, self.codec = file, codec
        self.frame: Any = None
        self.packed = self.ready = b""
        self.n_frames = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self.ready:
            if self.frame is None and not self._start_frame():
                return 0
            self._decompress(len(buffer))
        n = min(len(buffer), len(self.ready))
        buffer[:n] = self.ready[:n]
        self.ready = self.ready[n:]
        return n

    def _start_frame(self) -> bool:
        """Begin the next frame; return whether there is one."""
        while True:
            if self.n_frames and self.codec.has_padding:
                self.packed = self.packed.lstrip(b"\0")
            if len(self.packed) >= START_BYTES or not (piece := self.file.read(self.codec.piece_bytes)):
                break
            self.packed += piece
        if not self.packed and not self.n_frames:
            raise EOFError("the file is empty")
        if not self.packed:
            return False
        if not self.codec.starts.match(self.packed):
            if not self.n_frames:
                raise OSError(f"not {self.codec.name} data: it begins with {self.packed[:START_BYTES]!r}")
            self.file.trailing = f"bytes behind the end of the {self.codec.name} data, near byte {self._count_read()}"
            return False
        self.frame = self.codec.new(self.file.window_bytes)
        self.n_frames += 1
        return True

    def _count_read(self) -> int:
        return self.file.n_read - len(self.packed)

    def _decompress(self, n_wanted: int) -> None:
        """Decompress some of the current frame into `ready`."""
        frame = self.frame
        if not self.packed and getattr(frame, "needs_input", True):
            self.packed = self.file.read(self.codec.piece_bytes)
            if not self.packed:
                raise EOFError("the stream ended before the end marker of its frame")
        limit = (n_wanted,) if self.codec.is_bounded else ()
        try:
            self.ready = frame.decompress(self.packed, *limit)
        except zstandard.ZstdError as error:
            raise _explain_window(error, self.file.window_bytes) from error
        self.packed = getattr(frame, "unconsumed_tail", b"")
        if frame.eof:
            self.packed, self.frame = frame.unused_data or b"", None


def _explain_window(error: zstandard.ZstdError, window_bytes: int) -> zstandard.ZstdError:
    """Return an error that names the setting if a frame takes more memory than allowed."""
    if "too much memory" not in str(error):
        return error
    return zstandard.ZstdError(
        f"the file needs a window of more than {window_bytes} bytes (it was made with --long or --ultra): "
        f"set max_window_bytes of its source, up to {MAX_WINDOW_BYTES}"
    )


def decompress(file: CountedFile, compression: str) -> io.BufferedReader:
    """Open the decompressed bytes of a file with that compression (`""`: none).

    Reading raises one of `BROKEN`, or `BombError`; `read1` returns everything before the break first.
    """
    if compression not in CODECS:
        return io.BufferedReader(file, BLOCK_BYTES)
    frames: Any = _Frames(file, CODECS[compression])
    return io.BufferedReader(_Decompressed(frames, file), BLOCK_BYTES)


def name_compression(head: bytes) -> str:
    """Return the ending of the compression or archive that a file begins like, for a message about its name; else nothing."""
    return next((ending for magic, ending in MAGIC.items() if head.startswith(magic)), "")


def read_members(file: CountedFile, kind: str, compression: str) -> Iterator[Member]:
    """Yield the members of an archive in its own order, without folders. Raises one of `BROKEN`, or `BombError`."""
    if kind == ".zip":
        with _report_broken_zip():
            yield from _read_zip_members(file)
        return
    stream: Any = _UntilBreak(decompress(file, compression))
    with tarfile.open(fileobj=stream, mode="r|", tarinfo=_StrictInfo) as archive:
        try:
            for info in archive:
                if not info.isdir():
                    problem = "" if info.isreg() else "a link or a device, not a file"
                    yield Member(
                        info.name, info.size, problem, lambda info=info: _check_present(archive.extractfile(info))
                    )
        except BROKEN_ZIP as error:
            raise tarfile.ReadError(f"{type(error).__name__}: {error}") from error
    if stream.failure:
        raise stream.failure


class _StrictInfo(tarfile.TarInfo):
    """The header of a member. `tarfile` takes a broken or missing header for the end of the archive; this raises `ReadError`."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> _StrictInfo:  # pyright: ignore[reportIncompatibleMethodOverride]
        try:
            return super().fromtarfile(tarfile)
        except EOF_HEADER:
            raise
        except HEADER_ERROR as error:
            raise READ_ERROR(f"{error}: the archive is broken or clipped at byte {tarfile.offset}") from error


EOF_HEADER: Any = tarfile.EOFHeaderError  # type: ignore[attr-defined]
HEADER_ERROR: Any = tarfile.HeaderError
READ_ERROR = tarfile.ReadError


class _UntilBreak:
    """A stream for `tarfile` that ends at a break, so that the members before it are complete; then `failure` has the error."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self.stream = stream
        self.failure: Exception | None = None

    def read(self, size: int) -> bytes:
        try:
            return b"" if self.failure else self.stream.read1(size)
        except (*BROKEN, BombError) as error:
            self.failure = error
            return b""


def _check_present(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "a regular file has a stream"
    return stream


@contextmanager
def _report_broken_zip() -> Generator[None]:
    """Convert what `zipfile` raises about broken archives besides its own error to that."""
    try:
        yield
    except BROKEN_ZIP as error:
        raise zipfile.BadZipFile(f"{type(error).__name__}: {error}") from error


class _ZipMember(io.RawIOBase):
    """Read a member of a zip; what `zipfile` raises about broken data becomes one of `BROKEN`."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.file.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        with _report_broken_zip():
            return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        with _report_broken_zip():
            data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


def _read_zip_members(file: CountedFile) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:  # pyright: ignore[reportArgumentType]
        total = 0
        for info in archive.infolist():
            if info.is_dir():
                continue
            total += info.file_size
            if total > RATIO_SLACK_BYTES + MAX_RATIO * max(file.seek(0, io.SEEK_END), 1):
                raise BombError(f"its first members declare {total} bytes")
            is_link = (info.external_attr >> 28) == 0xA  # the Unix file type, symbolic link
            yield Member(
                info.filename, info.file_size, "a link" if is_link else "", lambda info=info: _open(archive, info)
            )


def _open(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> IO[bytes]:
    with _report_broken_zip():
        return io.BufferedReader(_ZipMember(archive.open(info)), BLOCK_BYTES)

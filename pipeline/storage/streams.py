"""Read compressed files and archive members as byte streams, without writing to disk and with one block in memory.

In: an open file and its name. Out: readable streams, one for a plain or compressed file, one per member for .tar and .zip.
Names determine the format: `.gz .bz2 .xz .zst .lz4` around anything, `.tgz` for `.tar.gz`. A truncated stream is an error, never a
short text. Covers hostile input: path traversal (nothing is written), links and devices (never followed), decompression bombs of
more than `MAX_RATIO` times the file (`BombError`), nested archives (refused). Does not cover: tar headers that declare a name of
gigabytes.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import lz4.frame
import zstandard

MAX_RATIO = 200  # text compresses to a twentieth at best; gzip could compress zeros to a thousandth
RATIO_SLACK_BYTES = 100_000_000  # small files may exceed the ratio
BLOCK_BYTES = 1 << 16
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4")
ARCHIVES = (".tar", ".zip")

BROKEN = (
    *(EOFError, OSError, zlib.error, lzma.LZMAError, zstandard.ZstdError, tarfile.TarError, zipfile.BadZipFile),
    *(NotImplementedError, RuntimeError),  # zip: an unknown method, or a password; lz4: all errors
)


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
    name = name.lower()
    if name.endswith(".tgz"):
        return ".tar", ".gz"
    compression = next((ending for ending in COMPRESSIONS if name.endswith(ending)), "")
    stem = name.removesuffix(compression).rpartition("/")[2]
    return ("." + stem.rpartition(".")[2] if "." in stem else ""), compression


class CountedFile(io.RawIOBase):
    """Wrap an open file and count the bytes read from it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.n_read = 0

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


class _Frames(io.RawIOBase):
    """Decompress consecutive zstd or lz4 frames; unlike the libraries' own readers, this detects a truncated frame."""

    def __init__(self, source: IO[bytes], new_frame: Callable[[], Any]) -> None:
        self.source, self.new_frame = source, new_frame
        self.frame: Any = None
        self.packed = self.ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while not self.ready:
            self.packed = self.packed or self.source.read(4_096)  # may decompress to a megabyte
            if not self.packed:
                if self.frame is not None:
                    raise EOFError("the stream ended before the end marker of its frame")
                return 0
            self.frame = self.frame or self.new_frame()
            self.ready, self.packed = self.frame.decompress(self.packed), b""
            if self.frame.eof:
                self.packed, self.frame = self.frame.unused_data or b"", None
        n = min(len(buffer), len(self.ready))
        buffer[:n] = self.ready[:n]
        self.ready = self.ready[n:]
        return n


def decompress(file: CountedFile, compression: str) -> io.BufferedReader:
    """Open the decompressed bytes of a file with that compression (`""`: none). Reading raises one of `BROKEN`, or `BombError`."""
    packed: Any = file
    match compression:
        case ".gz":
            opened: Any = gzip.GzipFile(fileobj=packed)
        case ".bz2":
            opened = bz2.BZ2File(packed)
        case ".xz":
            opened = lzma.LZMAFile(packed)  # noqa: SIM115
        case ".zst":
            opened = _Frames(packed, lambda: zstandard.ZstdDecompressor().decompressobj())
        case ".lz4":
            opened = _Frames(packed, lz4.frame.LZ4FrameDecompressor)
        case _:
            return io.BufferedReader(packed, BLOCK_BYTES)
    return io.BufferedReader(_Decompressed(opened, file), BLOCK_BYTES)


def read_members(file: CountedFile, kind: str, compression: str) -> Iterator[Member]:
    """Yield the members of an archive in its own order, without folders. Raises one of `BROKEN`, or `BombError`."""
    if kind == ".zip":
        yield from _read_zip_members(file)
        return
    with tarfile.open(fileobj=decompress(file, compression), mode="r|") as archive:
        for info in archive:
            if not info.isdir():
                problem = "" if info.isreg() else "a link or a device, not a file"
                yield Member(info.name, info.size, problem, lambda info=info: _check_present(archive.extractfile(info)))


def _check_present(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None, "a regular file has a stream"
    return stream


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
                info.filename, info.file_size, "a link" if is_link else "", lambda info=info: archive.open(info)
            )

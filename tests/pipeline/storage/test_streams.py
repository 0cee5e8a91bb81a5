"""Compressed files and archives are read as streams; truncated and hostile ones are errors."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import sys
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.storage import streams
from pipeline.storage.streams import BROKEN, BombError, CountedFile, decompress, read_members, split_name

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".lz4": lz4.frame.compress,
}
COMPRESSED = [ending for ending in PACK if ending]


def open_bytes(data: bytes) -> CountedFile:
    return CountedFile(io.BytesIO(data))


def make_tar(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.mark.parametrize("compression", PACK)
@given(data=st.binary(max_size=3_000))
def test_decompression_inverts_compression(compression: str, data: bytes) -> None:
    assert decompress(open_bytes(PACK[compression](data)), compression).read() == data


@pytest.mark.parametrize("compression", COMPRESSED)
def test_consecutive_frames_are_one_text(compression: str) -> None:
    pack = PACK[compression]
    assert decompress(open_bytes(pack(b"one ") + pack(b"") + pack(b"two")), compression).read() == b"one two"


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_truncated_stream_is_an_error_never_a_short_text(compression: str) -> None:
    packed = PACK[compression](bytes(range(256)) * 40)
    with pytest.raises(BROKEN):
        decompress(open_bytes(packed[:-3]), compression).read()


@pytest.mark.parametrize("compression", COMPRESSED)
def test_uncompressed_data_is_an_error(compression: str) -> None:
    with pytest.raises(BROKEN):
        decompress(open_bytes(b"plain text, not packed at all"), compression).read()


@pytest.mark.parametrize("compression", COMPRESSED)
def test_truncation_at_any_byte_is_an_error(compression: str) -> None:
    packed = PACK[compression](b"some text, " * 9)
    for end in range(len(packed)):
        with pytest.raises(BROKEN):
            decompress(open_bytes(packed[:end]), compression).read()


def test_lz4_block_sizes_and_a_wrong_checksum() -> None:
    data = bytes(range(256)) * 1_000
    for block_size in (lz4.frame.BLOCKSIZE_MAX64KB, lz4.frame.BLOCKSIZE_MAX4MB):
        for is_linked in (True, False):
            packed = lz4.frame.compress(
                data, block_size=block_size, block_linked=is_linked, content_checksum=True, store_size=False
            )
            assert decompress(open_bytes(packed), ".lz4").read() == data
    with pytest.raises(BROKEN):
        decompress(open_bytes(packed[:-2] + b"xx"), ".lz4").read()


@pytest.mark.parametrize("compression", COMPRESSED)
def test_a_bomb_is_stopped(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", 100_000)
    stream = decompress(open_bytes(PACK[compression](b"\0" * 5_000_000)), compression)
    with pytest.raises(BombError):
        stream.read()


@pytest.mark.parametrize("compression", PACK)
def test_members_of_a_tar(compression: str) -> None:
    data = PACK[compression](make_tar({"a.txt": b"one", "b/c.txt": b"two"}))
    found = [(member.name, member.read().read()) for member in read_members(open_bytes(data), ".tar", compression)]
    assert found == [("a.txt", b"one"), ("b/c.txt", b"two")]


OUTSIDE = ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:\\outside.txt"]


@pytest.mark.parametrize("kind", [".tar", ".zip"])
def test_path_traversal_writes_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are streams: nothing is written, whatever their names are."""
    monkeypatch.chdir(tmp_path)
    sink = io.BytesIO()
    if kind == ".tar":
        sink.write(make_tar(dict.fromkeys(OUTSIDE, b"text")))
    else:
        with zipfile.ZipFile(sink, "w") as archive:
            for name in OUTSIDE:
                archive.writestr(name, "text")
    writes: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("os.mkdir", "os.rename", "os.symlink", "os.link") or (event == "open" and arguments[1] != "r"):
            writes.append(f"{event} {arguments[0]}")

    with audit(hook):
        found = [
            member.read().read() for member in read_members(open_bytes(sink.getvalue()), kind, "") if not member.problem
        ]
    assert found == [b"text"] * len(OUTSIDE)
    assert not writes
    assert not list(tmp_path.iterdir())


@contextmanager
def audit(hook: Callable[[str, tuple[object, ...]], None]) -> Generator[None, None, None]:
    """Call `hook` for audit events in the `with` block. Audit hooks can't be removed, only disabled."""
    is_on = [True]
    sys.addaudithook(lambda event, arguments: hook(event, arguments) if is_on[0] else None)
    try:
        yield
    finally:
        is_on[0] = False


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_links_and_devices_in_a_tar_have_a_problem(kind: bytes) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("x.txt")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    [member] = read_members(open_bytes(sink.getvalue()), ".tar", "")
    assert member.problem


def test_a_link_in_a_zip_has_a_problem() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        info = zipfile.ZipInfo("x.txt")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    [member] = read_members(open_bytes(sink.getvalue()), ".zip", "")
    assert member.problem


def test_links_are_never_followed() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        link = tarfile.TarInfo("passwords.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    [member] = read_members(open_bytes(sink.getvalue()), ".tar", "")
    assert member.problem


def test_members_of_a_zip_and_a_zip_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/a.txt", "one")
        archive.writestr("zeros.txt", b"\0" * 3_000_000)
    names = [member.name for member in read_members(open_bytes(sink.getvalue()), ".zip", "")]
    assert names == ["folder/a.txt", "zeros.txt"]
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", 1_000)
    with pytest.raises(BombError):
        list(read_members(open_bytes(sink.getvalue()), ".zip", ""))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.txt", (".txt", "")),
        ("B.TXT.GZ", (".txt", ".gz")),
        ("x.tgz", (".tar", ".gz")),
        ("x.tar.zst", (".tar", ".zst")),
        ("v1.2/README", ("", "")),
        ("x.gz", ("", ".gz")),
    ],
)
def test_split_name(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected


@pytest.mark.parametrize("compression", COMPRESSED)
def test_bytes_behind_the_end_are_described_not_read(compression: str) -> None:
    file = open_bytes(PACK[compression](b"one\n") + b"garbage behind the end")
    assert decompress(file, compression).read() == b"one\n"
    assert "bytes behind the end" in file.trailing
    clean = open_bytes(PACK[compression](b"one\n") * 2)
    assert decompress(clean, compression).read() == b"one\none\n"
    assert not clean.trailing


@pytest.mark.parametrize("compression", [".gz", ".xz"])
@pytest.mark.parametrize("n_zeros", [4, 512, 200_000])
def test_padding_between_and_behind_frames_is_legal(compression: str, n_zeros: int) -> None:
    pack, zeros = PACK[compression], bytes(n_zeros)
    file = open_bytes(pack(b"one ") + zeros + pack(b"two") + zeros)
    assert decompress(file, compression).read() == b"one two"
    assert not file.trailing


@pytest.mark.parametrize("compression", COMPRESSED)
@pytest.mark.parametrize("size", [1, 40, 3_000])
def test_everything_before_a_break_is_read(compression: str, size: int) -> None:
    """Blocks are decompressed as soon as they are complete; with two frames that is at least the first one."""
    pack, first = PACK[compression], random.Random(1).randbytes(size)
    stream = decompress(open_bytes(pack(first) + pack(b"second")[:-2]), compression)
    pieces = read_until_broken(iter(lambda: stream.read1(1_000), b""))
    assert b"".join(pieces).startswith(first)


def read_until_broken(items: Iterator[Any]) -> list[Any]:
    """Return the items before the break."""
    found: list[Any] = []

    def read() -> None:
        found.extend(items)

    with pytest.raises(BROKEN):
        read()
    return found


def test_an_lzma_file_of_the_old_format_is_read() -> None:
    data = lzma.compress(b"old", format=lzma.FORMAT_ALONE)
    assert decompress(open_bytes(data), split_name("a.txt.lzma")[1]).read() == b"old"


def test_skippable_frames_are_skipped() -> None:
    skippable = b"\x50\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc"
    for compression in (".zst", ".lz4"):
        file = open_bytes(skippable + PACK[compression](b"one ") + skippable + PACK[compression](b"two"))
        assert decompress(file, compression).read() == b"one two"
        assert not file.trailing


def test_a_long_window_needs_the_setting() -> None:
    params = zstandard.ZstdCompressionParameters.from_level(1, window_log=28)
    packer = zstandard.ZstdCompressor(compression_params=params).compressobj()  # without a size: the window is declared
    data = packer.compress(b"text") + packer.flush()
    with pytest.raises(BROKEN, match="max_window_bytes"):
        decompress(open_bytes(data), ".zst").read()
    assert decompress(CountedFile(io.BytesIO(data), 1 << 28), ".zst").read() == b"text"


@pytest.mark.parametrize("compression", PACK)
def test_members_before_a_break_are_complete(compression: str) -> None:
    files = {f"{number}.txt": random.Random(number).randbytes(700) for number in range(9)}
    data = make_tar(files)
    packed = PACK[compression](data[:-8_000]) if compression in ("", ".bz2") else PACK[compression](data)[:-3_000]
    members = read_members(open_bytes(packed), ".tar", compression)
    found = dict(read_until_broken((member.name, member.read().read()) for member in members))
    assert len(found) >= (4 if compression in ("", ".gz", ".bz2") else 0)
    assert found.items() <= files.items()


def test_a_broken_header_is_no_end_of_an_archive() -> None:
    data = bytearray(make_tar({"a.txt": b"one", "b.txt": b"two"}))
    data[1_024 + 150] ^= 0x55  # in the checksum of the second header
    found = list[str]()
    with pytest.raises(BROKEN, match="broken or clipped"):
        found.extend(member.name for member in read_members(open_bytes(bytes(data)), ".tar", ""))
    with pytest.raises(BROKEN, match="broken or clipped"):
        list(read_members(open_bytes(bytes(data[:1_024])), ".tar", ""))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("x.tbz2", (".tar", ".bz2")),
        ("x.TXZ", (".tar", ".xz")),
        ("x.tzst", (".tar", ".zst")),
        ("x.tar.bz2", (".tar", ".bz2")),
        ("x.jsonl.zstd", (".jsonl", ".zst")),
        ("x.tgz.gz", (".tgz", ".gz")),
        ("c4-train.00000-of-01024.json.gz", (".json", ".gz")),
        ("a.b/c", ("", "")),
        ("a.tgz/c.txt", (".txt", "")),
    ],
)
def test_endings_of_archives_and_aliases(name: str, expected: tuple[str, str]) -> None:
    assert split_name(name) == expected

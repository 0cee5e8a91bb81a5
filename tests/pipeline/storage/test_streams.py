"""Compressed files and archives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

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
CLIPPED = [ending for ending in PACK if ending]


def opened(data: bytes) -> CountedFile:
    return CountedFile(io.BytesIO(data))


def tar(files: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


@pytest.mark.parametrize("compression", PACK)
@given(data=st.binary(max_size=3_000))
def test_unpacking_undoes_packing(compression: str, data: bytes) -> None:
    assert decompress(opened(PACK[compression](data)), compression).read() == data


@pytest.mark.parametrize("compression", CLIPPED)
def test_frames_one_after_the_other_are_one_text(compression: str) -> None:
    pack = PACK[compression]
    assert decompress(opened(pack(b"one ") + pack(b"") + pack(b"two")), compression).read() == b"one two"


@pytest.mark.parametrize("compression", CLIPPED)
def test_a_clipped_stream_is_an_error_never_a_short_text(compression: str) -> None:
    packed = PACK[compression](bytes(range(256)) * 40)
    with pytest.raises(BROKEN):
        decompress(opened(packed[:-3]), compression).read()


@pytest.mark.parametrize("compression", CLIPPED)
def test_what_is_not_compressed_is_an_error(compression: str) -> None:
    with pytest.raises(BROKEN):
        decompress(opened(b"plain text, not packed at all"), compression).read()


@pytest.mark.parametrize("compression", CLIPPED)
def test_every_clipping_is_an_error(compression: str) -> None:
    packed = PACK[compression](b"some text, " * 9)
    for end in range(1, len(packed)):
        with pytest.raises(BROKEN):
            decompress(opened(packed[:end]), compression).read()


def test_lz4_blocks_with_and_without_checksums_and_a_wrong_one() -> None:
    data = bytes(range(256)) * 1_000
    for block_size in (lz4.frame.BLOCKSIZE_MAX64KB, lz4.frame.BLOCKSIZE_MAX4MB):
        for is_linked in (True, False):
            packed = lz4.frame.compress(
                data, block_size=block_size, block_linked=is_linked, content_checksum=True, store_size=False
            )
            assert decompress(opened(packed), ".lz4").read() == data
    with pytest.raises(BROKEN):
        decompress(opened(packed[:-2] + b"xx"), ".lz4").read()


@pytest.mark.parametrize("compression", CLIPPED)
def test_a_bomb_is_stopped(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", 100_000)
    stream = decompress(opened(PACK[compression](b"\0" * 5_000_000)), compression)
    with pytest.raises(BombError):
        stream.read()


@pytest.mark.parametrize("compression", PACK)
def test_members_of_a_tar(compression: str) -> None:
    data = PACK[compression](tar({"a.txt": b"one", "b/c.txt": b"two"}))
    found = [(member.name, member.read().read()) for member in read_members(opened(data), ".tar", compression)]
    assert found == [("a.txt", b"one"), ("b/c.txt", b"two")]


OUTSIDE = ["../outside.txt", "/tmp/outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:\\outside.txt"]


@pytest.mark.parametrize("kind", [".tar", ".zip"])
def test_names_that_lead_outside_write_nothing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Members are streams: nothing is ever written, whatever their names."""
    monkeypatch.chdir(tmp_path)
    sink = io.BytesIO()
    if kind == ".tar":
        sink.write(tar(dict.fromkeys(OUTSIDE, b"text")))
    else:
        with zipfile.ZipFile(sink, "w") as archive:
            for name in OUTSIDE:
                archive.writestr(name, "text")
    wrote: list[str] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("os.mkdir", "os.rename", "os.symlink", "os.link") or (event == "open" and arguments[1] != "r"):
            wrote.append(f"{event} {arguments[0]}")

    with audited(hook):
        found = [member.read().read() for member in read_members(opened(sink.getvalue()), kind, "") if not member.problem]
    assert found == [b"text"] * len(OUTSIDE)
    assert not wrote
    assert not list(tmp_path.iterdir())


@contextmanager
def audited(hook: Callable[[str, tuple[object, ...]], None]) -> Generator[None, None, None]:
    """Audit hooks can't be removed, only told that it is over."""
    is_on = [True]
    sys.addaudithook(lambda event, arguments: hook(event, arguments) if is_on[0] else None)
    try:
        yield
    finally:
        is_on[0] = False


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_what_is_no_file_has_a_problem(kind: bytes) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        info = tarfile.TarInfo("x.txt")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    [member] = read_members(opened(sink.getvalue()), ".tar", "")
    assert member.problem


def test_a_link_in_a_zip_has_a_problem() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        info = zipfile.ZipInfo("x.txt")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    [member] = read_members(opened(sink.getvalue()), ".zip", "")
    assert member.problem


def test_links_are_never_followed() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        link = tarfile.TarInfo("passwords.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    [member] = read_members(opened(sink.getvalue()), ".tar", "")
    assert member.problem


def test_members_of_a_zip_and_a_zip_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/a.txt", "one")
        archive.writestr("zeros.txt", b"\0" * 3_000_000)
    names = [member.name for member in read_members(opened(sink.getvalue()), ".zip", "")]
    assert names == ["folder/a.txt", "zeros.txt"]
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", 1_000)
    with pytest.raises(BombError):
        list(read_members(opened(sink.getvalue()), ".zip", ""))


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

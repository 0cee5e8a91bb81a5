"""Compressed files and archives."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources import streams
from pipeline.sources.streams import BROKEN, BombError, CountedFile, members, split_name, unpacked

PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
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
    assert unpacked(opened(PACK[compression](data)), compression).read() == data


@pytest.mark.parametrize("compression", CLIPPED)
def test_frames_one_after_the_other_are_one_text(compression: str) -> None:
    pack = PACK[compression]
    assert unpacked(opened(pack(b"one ") + pack(b"") + pack(b"two")), compression).read() == b"one two"


@pytest.mark.parametrize("compression", CLIPPED)
def test_a_clipped_stream_is_an_error_never_a_short_text(compression: str) -> None:
    packed = PACK[compression](bytes(range(256)) * 40)
    with pytest.raises(BROKEN):
        unpacked(opened(packed[:-3]), compression).read()


@pytest.mark.parametrize("compression", CLIPPED)
def test_what_is_not_compressed_is_an_error(compression: str) -> None:
    with pytest.raises(BROKEN):
        unpacked(opened(b"plain text, not packed at all"), compression).read()


@pytest.mark.parametrize("compression", [".bz2", ".xz", ".zst"])
def test_a_bomb_is_stopped(compression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", 100_000)
    stream = unpacked(opened(PACK[compression](b"\0" * 5_000_000)), compression)
    with pytest.raises(BombError):
        stream.read()


@pytest.mark.parametrize("compression", PACK)
def test_members_of_a_tar(compression: str) -> None:
    data = PACK[compression](tar({"a.txt": b"one", "b/c.txt": b"two"}))
    found = [(member.name, member.read().read()) for member in members(opened(data), ".tar", compression)]
    assert found == [("a.txt", b"one"), ("b/c.txt", b"two")]


def test_links_are_never_followed() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        link = tarfile.TarInfo("passwords.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    [member] = members(opened(sink.getvalue()), ".tar", "")
    assert member.problem


def test_members_of_a_zip_and_a_zip_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("folder")
        archive.writestr("folder/a.txt", "one")
        archive.writestr("zeros.txt", b"\0" * 3_000_000)
    names = [member.name for member in members(opened(sink.getvalue()), ".zip", "")]
    assert names == ["folder/a.txt", "zeros.txt"]
    monkeypatch.setattr(streams, "RATIO_SLACK_BYTES", 1_000)
    with pytest.raises(BombError):
        list(members(opened(sink.getvalue()), ".zip", ""))


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

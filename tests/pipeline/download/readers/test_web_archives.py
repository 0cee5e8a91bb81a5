"""Records of archives: every packing gives the same ones; what is broken is told, and the rest is read on."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.download.readers.chunks import Problem
from pipeline.download.readers.web_archives import Item, Record, Skipped, read_archive
from pipeline.storage.streams import BombError, CountedFile
from tests.pipeline.download.readers.made_archives import PACKED, PACKED_WHOLE, page, records, warc_record

MAX_BYTES = 1_000_000


def read(data: bytes, max_bytes: int = MAX_BYTES) -> list[Item]:
    return list(read_archive(CountedFile(io.BytesIO(data)), max_bytes))


def ids(items: list[Item]) -> list[str]:
    return [item.id.strip("<>").rpartition(":")[2] for item in items if isinstance(item, Record)]


def reasons(items: list[Item]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Problem)]


@pytest.mark.parametrize("packing", PACKED)
def test_records_packed_one_by_one(packing: str) -> None:
    items = read(b"".join(map(PACKED[packing], records())))
    assert ids(items) == list("01234")
    assert [item.block for item in items if isinstance(item, Record)] == [page(number) for number in range(5)]
    assert [item.kind for item in items if isinstance(item, Skipped)] == ["warcinfo", *["request"] * 5]
    assert not reasons(items)


@pytest.mark.parametrize("packing", PACKED_WHOLE)
def test_a_file_packed_as_one(packing: str) -> None:
    items = read(PACKED_WHOLE[packing](b"".join(records())))
    assert ids(items) == list("01234")
    assert not reasons(items)


@pytest.mark.parametrize("packing", PACKED)
def test_the_offset_finds_the_record_again(packing: str) -> None:
    data = b"".join(map(PACKED[packing], records()))
    for item in read(data):
        if isinstance(item, Record):
            assert ids(read(data[item.offset :]))[0] == item.id.strip("<>").rpartition(":")[2]


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("wrong", [b"WXRC/1.0", b"\0\0\0\0\0\0\0\0"])
def test_after_a_broken_head_the_rest_is_read(packing: str, wrong: bytes) -> None:
    made = records()
    made[5] = wrong + made[5][8:]
    items = read(b"".join(map(PACKED[packing], made)))
    assert ids(items) == list("0134")
    assert reasons(items) == ["broken_record"]


@pytest.mark.parametrize("packing", [".gz", ".zst", ".lz4"])
@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_after_a_broken_member_the_rest_is_read(packing: str, damage: str) -> None:
    made = list(map(PACKED[packing], records()))
    half = len(made[5]) // 2
    made[5] = made[5][:half] + (b"" if damage == "cut" else b"\xff" * 24 + made[5][half + 24 :])
    items = read(b"".join(made))
    assert [number for number in ids(items) if number != "2"] == list("0134")
    assert reasons(items) in (["broken_record"], ["clipped_record"])


def test_a_length_that_reaches_into_the_next_record() -> None:
    made = records()
    made[5] = warc_record(2, page(2), Content_Length=str(len(page(2)) + 700))
    items = read(b"".join(made))
    assert ids(items) == list("0134")
    assert reasons(items) == ["broken_record"]


def test_a_last_record_that_is_clipped() -> None:
    items = read(b"".join(records())[:-400])
    assert ids(items) == list("0123")
    assert reasons(items) == ["clipped_record"]


@pytest.mark.parametrize("packing", PACKED)
def test_an_end_that_is_cut_off_is_noticed_at_every_byte(packing: str) -> None:
    parts = list(map(PACKED[packing], records(2)))
    data, start = b"".join(parts), sum(map(len, parts[:-1]))
    n_tail = 0 if packing else 4  # the blank lines behind a plain record
    for at in range(start + 1, len(data) - n_tail):
        if re.search(rb"Content-Length: ?\d?$", data[start:at]):  # half a number is a number
            continue
        items = read(data[:at])
        assert ids(items) == ["0", "1"]
        assert reasons(items) in (["clipped_record"], ["broken_record"]), at


def test_a_long_record_is_stepped_over() -> None:
    made = records()
    made[5] = warc_record(2, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 50_000)
    for packing in PACKED:
        items = read(b"".join(map(PACKED[packing], made)), max_bytes=20_000)
        assert ids(items) == list("0134")
        assert reasons(items) == ["too_large"]


def test_a_bomb_is_not_unpacked() -> None:
    made = [gzip.compress(record) for record in records()]
    made[5] = gzip.compress(warc_record(2, bytes(150_000_000)), 9)
    with pytest.raises(BombError):
        read(b"".join(made))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(PACKED)), st.floats(0, 1), st.booleans(), st.binary(min_size=1, max_size=40))
def test_whatever_is_cut_or_overwritten_good_records_come_first(
    packing: str, where: float, is_cut: bool, noise: bytes
) -> None:
    """Records that end before the damage are read as they were; nothing but the named errors is raised."""
    parts = list(map(PACKED[packing], records()))
    data = b"".join(parts)
    at = int(where * len(data))
    items = read(data[:at] if is_cut else data[:at] + noise + data[at + len(noise) :])
    n_whole = sum(sum(map(len, parts[:index])) <= at for index in range(1, len(parts) + 1))
    expected = ids(read(b"".join(parts[:n_whole]))) if n_whole else []
    assert ids(items)[: max(len(expected) - 1, 0)] == expected[: max(len(expected) - 1, 0)]


def test_no_archive_at_all(tmp_path: Path) -> None:
    assert reasons(read(b"no archive at all\n" * 10)) == ["broken_record"]
    assert read(b"") == []

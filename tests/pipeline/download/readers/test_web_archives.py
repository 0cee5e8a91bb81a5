"""Test reading records: every compression gives the same ones, and reading continues after broken bytes."""

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
from tests.pipeline.download.readers.sample_archives import PACKED, PACKED_WHOLE, make_page, make_record, make_records

MAX_BYTES = 1_000_000


def read(data: bytes, max_bytes: int = MAX_BYTES) -> list[Item]:
    return list(read_archive(CountedFile(io.BytesIO(data)), max_bytes))


def get_ids(items: list[Item]) -> list[str]:
    return [item.id.strip("<>").rpartition(":")[2] for item in items if isinstance(item, Record)]


def get_reasons(items: list[Item]) -> list[str]:
    return [item.reason for item in items if isinstance(item, Problem)]


@pytest.mark.parametrize("packing", PACKED)
def test_records_compressed_one_by_one_are_read(packing: str) -> None:
    items = read(b"".join(map(PACKED[packing], make_records())))
    assert get_ids(items) == list("01234")
    assert [item.block for item in items if isinstance(item, Record)] == [make_page(number) for number in range(5)]
    assert [item.kind for item in items if isinstance(item, Skipped)] == ["warcinfo", *["request"] * 5]
    assert not get_reasons(items)


@pytest.mark.parametrize("packing", PACKED_WHOLE)
def test_a_file_compressed_as_a_whole_is_read(packing: str) -> None:
    items = read(PACKED_WHOLE[packing](b"".join(make_records())))
    assert get_ids(items) == list("01234")
    assert not get_reasons(items)


@pytest.mark.parametrize("packing", PACKED)
def test_reading_at_an_offset_gives_the_record(packing: str) -> None:
    data = b"".join(map(PACKED[packing], make_records()))
    for item in read(data):
        if isinstance(item, Record):
            assert get_ids(read(data[item.offset :]))[0] == item.id.strip("<>").rpartition(":")[2]


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("wrong", [b"WXRC/1.0", b"\0\0\0\0\0\0\0\0"])
def test_reading_continues_after_a_broken_head(packing: str, wrong: bytes) -> None:
    made = make_records()
    made[5] = wrong + made[5][8:]
    items = read(b"".join(map(PACKED[packing], made)))
    assert get_ids(items) == list("0134")
    assert get_reasons(items) == ["broken_record"]


@pytest.mark.parametrize("packing", [".gz", ".zst", ".lz4"])
@pytest.mark.parametrize("damage", ["cut", "noise"])
def test_reading_continues_after_a_broken_member(packing: str, damage: str) -> None:
    made = list(map(PACKED[packing], make_records()))
    half = len(made[5]) // 2
    made[5] = made[5][:half] + (b"" if damage == "cut" else b"\xff" * 24 + made[5][half + 24 :])
    items = read(b"".join(made))
    assert [number for number in get_ids(items) if number != "2"] == list("0134")
    assert get_reasons(items) in (["broken_record"], ["clipped_record"])


def test_a_length_beyond_the_next_record_is_detected() -> None:
    made = make_records()
    made[5] = make_record(2, make_page(2), Content_Length=str(len(make_page(2)) + 700))
    items = read(b"".join(made))
    assert get_ids(items) == list("0134")
    assert get_reasons(items) == ["broken_record"]


def test_a_truncated_last_record_is_rejected() -> None:
    items = read(b"".join(make_records())[:-400])
    assert get_ids(items) == list("0123")
    assert get_reasons(items) == ["clipped_record"]


@pytest.mark.parametrize("packing", PACKED)
def test_truncation_is_detected_at_every_byte(packing: str) -> None:
    parts = list(map(PACKED[packing], make_records(2)))
    data, start = b"".join(parts), sum(map(len, parts[:-1]))
    n_tail = 0 if packing else 4  # the blank lines after an uncompressed record
    for at in range(start + 1, len(data) - n_tail):
        if re.search(rb"Content-Length: ?\d?$", data[start:at]):  # a truncated number is still a number
            continue
        items = read(data[:at])
        assert get_ids(items) == ["0", "1"]
        assert get_reasons(items) in (["clipped_record"], ["broken_record"]), at


def test_an_oversized_record_is_skipped() -> None:
    made = make_records()
    made[5] = make_record(2, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 50_000)
    for packing in PACKED:
        items = read(b"".join(map(PACKED[packing], made)), max_bytes=20_000)
        assert get_ids(items) == list("0134")
        assert get_reasons(items) == ["too_large"]


def test_a_decompression_bomb_is_refused() -> None:
    made = [gzip.compress(record) for record in make_records()]
    made[5] = gzip.compress(make_record(2, bytes(150_000_000)), 9)
    with pytest.raises(BombError):
        read(b"".join(made))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(PACKED)), st.floats(0, 1), st.booleans(), st.binary(min_size=1, max_size=40))
def test_records_before_damaged_bytes_are_read(packing: str, where: float, is_cut: bool, noise: bytes) -> None:
    """Read records that end before the damage unchanged; raise only the documented errors."""
    parts = list(map(PACKED[packing], make_records()))
    data = b"".join(parts)
    at = int(where * len(data))
    items = read(data[:at] if is_cut else data[:at] + noise + data[at + len(noise) :])
    n_whole = sum(sum(map(len, parts[:index])) <= at for index in range(1, len(parts) + 1))
    expected = get_ids(read(b"".join(parts[:n_whole]))) if n_whole else []
    assert get_ids(items)[: max(len(expected) - 1, 0)] == expected[: max(len(expected) - 1, 0)]


def test_a_file_that_is_not_an_archive_is_rejected(tmp_path: Path) -> None:
    assert get_reasons(read(b"no archive at all\n" * 10)) == ["broken_record"]
    assert read(b"") == []

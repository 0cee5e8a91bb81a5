"""Test reading records: every compression gives the same ones, and reading continues after broken bytes."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.download.readers.chunks import BROKEN, Problem
from pipeline.download.readers.web_archives import STARTS, Item, Record, Skipped, read_archive
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


@pytest.mark.parametrize("packing", PACKED)
def test_reading_continues_at_members_of_many_blocks(packing: str) -> None:
    noise = (
        random.Random(1).randbytes(400_000).hex().encode()
    )  # compresses to half: more than one block of zstd and of lz4
    made = [make_record(number, make_page(number) + noise) for number in range(4)]
    made[1] = b"WXRC" + made[1][4:]
    items = read(b"".join(map(PACKED[packing], made)), max_bytes=2_000_000)
    assert get_ids(items) == list("023")
    assert get_reasons(items) == ["broken_record"]


@pytest.mark.parametrize("version", ["0.17", "0.18", "1.0", "1.1"])
@pytest.mark.parametrize("end", [b"", b"\r\n", b"\n\n", b"\r\n" * 9])
@pytest.mark.parametrize("packing", PACKED)
def test_old_and_new_versions_with_any_number_of_blank_lines_are_read(version: str, end: bytes, packing: str) -> None:
    made = [record.replace(b"1.0", version.encode(), 1).removesuffix(b"\r\n\r\n") + end for record in make_records()]
    items = read(b"".join(map(PACKED[packing], made)))
    assert get_ids(items) == list("01234")
    assert not get_reasons(items)


@pytest.mark.parametrize("packing", PACKED)
def test_heads_with_bare_line_feeds_are_read(packing: str) -> None:
    made = [record.replace(b"\r\n", b"\n", 7) for record in make_records()]
    items = read(b"".join(map(PACKED[packing], made)))
    assert get_ids(items) == list("01234")
    assert [item.block for item in items if isinstance(item, Record)] == [make_page(number) for number in range(5)]


@pytest.mark.parametrize("length", ["", "abc", "-5", "1e3", "0x10", "9" * 30, "12, 12", "20", "100000"])
def test_a_wrong_length_costs_one_record(length: str) -> None:
    made = make_records()
    made[5] = make_record(2, make_page(2), Content_Length=length)
    items = read(b"".join(made))
    assert [number for number in get_ids(items) if number != "2"] == list("0134")
    assert len(get_reasons(items)) == 1


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"junk\n" * 9, bytes(1_000), b"\r\n", b"WARC/"])
def test_a_record_is_found_behind_any_bytes(before: bytes) -> None:
    made = make_records()
    made[5] = before + made[5]
    items = read(b"".join(made))
    assert get_ids(items) == list("01234")
    assert len(get_reasons(items)) == (before != b"\r\n")


@pytest.mark.parametrize("packing", PACKED)
def test_an_arc_file_under_another_name_is_refused_by_name(packing: str) -> None:
    [problem] = read(PACKED[packing](b"filedesc://a.arc 0.0.0.0 20260101000000 text/plain 20\n1 0 Alexa\n"))
    assert isinstance(problem, Problem)
    assert (problem.reason, "ARC" in problem.detail) == ("unknown_format", True)


HOSTILE = {
    "lines": b"WARC/1.0\r\nX" + b"\nWARC/" * 50_000,
    "heads": b"WARC/1.0\r\n" * 50_000,
    "flood": b"WARC/1.0\r\n" + b"A: b\r\n" * 100_000,
    "no length": b"WARC/1.0\r\nWARC-Type: response\r\n\r\n" * 10_000,
    "gzip": gzip.compress(b"no archive") * 5_000,
    "gzip starts": STARTS[".gz"] * 50_000,
    "zstd": PACKED[".zst"](b"no archive") * 5_000,
    "zstd starts": STARTS[".zst"] * 20_000,
    "lz4": PACKED[".lz4"](b"no archive") * 5_000,
    "lz4 starts": STARTS[".lz4"] * 20_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_bytes_that_begin_like_records_everywhere_take_linear_time(name: str) -> None:
    started = time.process_time()
    assert len(get_reasons(read(make_records(1)[1] + HOSTILE[name]) + read(HOSTILE[name]))) <= 4
    assert time.process_time() - started < 3


def test_a_position_never_goes_back() -> None:
    """A record that a decompressor reports behind the place where reading has resumed would be searched for forever."""
    made = list(map(gzip.compress, make_records(2)))
    for seed in range(150):
        data, random_ = bytearray(b"".join(made)), random.Random(seed)
        for _ in range(8):
            data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        with contextlib.suppress(*BROKEN):
            assert len(read(bytes(data))) < 50

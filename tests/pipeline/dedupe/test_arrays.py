"""Arrays, records and strings are read back from disk as they were written."""

from __future__ import annotations

import errno
import tempfile
from io import BufferedWriter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedupe.arrays import (
    MAX_PARTS,
    Spool,
    StringFile,
    append_numbers,
    count_parts,
    make_file_array,
    read_array,
)

RECORD = np.dtype([("key", "<u8"), ("row", "<i8")])


@given(st.lists(st.lists(st.integers(0, 3), max_size=20), max_size=6), st.sampled_from([1, 100, 1_000_000]))
@settings(deadline=None)
def test_a_part_contains_its_records_in_the_order_they_were_written(
    batches: list[list[int]], buffer_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        spool, expected, row = Spool(Path(name) / "spool", RECORD, 4, buffer_bytes), [[], [], [], []], 0
        for batch in batches:
            records = np.array([(part, row + i) for i, part in enumerate(batch)], RECORD)
            spool.write(records, np.array(batch, np.int64))
            for i, part in enumerate(batch):
                expected[part].append(row + i)
            row += len(batch)
        assert spool.n_records == row
        for part in range(4):
            assert spool.drain(part)["row"].tolist() == expected[part]
            assert spool.drain(part)["row"].tolist() == [], "a part is read once"


@given(st.lists(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=6), max_size=5), st.data())
@settings(deadline=None)
def test_strings_are_found_by_their_position(batches: list[list[str]], data: st.DataObject) -> None:
    flat = [text for batch in batches for text in batch]
    with tempfile.TemporaryDirectory() as name:
        strings = StringFile(Path(name) / "strings")
        for batch in batches:
            column = pa.array(["before", *batch, "after"], pa.string())
            strings.append(pa.chunked_array([column.slice(1, len(batch))]))
        positions = data.draw(st.lists(st.integers(0, len(flat) - 1), max_size=10) if flat else st.just([]))
        assert strings.take(np.array(positions, np.int64)).to_pylist() == [flat[position] for position in positions]
        assert strings.n_bytes == sum(len(text.encode()) for text in flat)


@given(st.integers(0, 10**12), st.integers(1, 10**9))
@settings(deadline=None)
def test_a_part_fits_in_memory_unless_there_would_be_too_many(n_bytes: int, memory_bytes: int) -> None:
    n = count_parts(n_bytes, memory_bytes)
    assert n & (n - 1) == 0, "a power of two"
    assert n == MAX_PARTS or n_bytes / n <= memory_bytes / 4 + 1


def test_arrays_are_backed_by_files(tmp_path: Path) -> None:
    array = make_file_array(tmp_path / "a.bin", np.int64, 5)
    assert array.tolist() == [0] * 5
    array[:] = np.arange(5)
    assert read_array(tmp_path / "a.bin", np.int64).tolist() == [0, 1, 2, 3, 4]
    assert make_file_array(tmp_path / "none.bin", np.int64, 0).tolist() == []
    assert read_array(tmp_path / "none.bin", np.int64).tolist() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_reported() -> None:
    """The frame turns ENOSPC into a user error; `ndarray.tofile` raises an OSError without errno."""
    with pytest.raises(OSError, match="No space left") as caught, Path("/dev/full").open("wb", buffering=0) as file:
        append_numbers(BufferedWriter(file), np.zeros(100_000, RECORD))
    assert caught.value.errno == errno.ENOSPC

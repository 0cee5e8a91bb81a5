"""Sorting more than fits: the order is that of a sort in memory, whatever the sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.external import rows as spool
from pipeline.external.rows import Spool, part_of


@pytest.mark.parametrize(("part_bytes", "buffer_bytes"), [(1 << 30, 1 << 30), (200, 100), (1, 1)])
def test_rows_come_back_sorted_and_whole(
    part_bytes: int, buffer_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "BUFFER_BYTES", buffer_bytes)
    chance = np.random.Generator(np.random.PCG64(1))
    keys = chance.integers(0, 1 << 64, 300, dtype=np.uint64)
    keys[:40] = keys[40]  # equal keys fall back on the tie
    table = pa.table({"key": keys, "name": [f"{number:03d}" for number in chance.permutation(300)]})
    spooled = Spool(tmp_path / "spool", table.nbytes, ties=["name"], part_bytes=part_bytes)
    for start in range(0, 300, 7):
        spooled.write(table[start : start + 7])
    found = pa.concat_tables(list(spooled.read()))
    assert found.to_pydict() == table.sort_by([("key", "ascending"), ("name", "ascending")]).to_pydict()
    assert not list((tmp_path / "spool").iterdir())


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.integers(1, 4096))
def test_parts_are_ranges_in_order(keys: list[int], n_parts: int) -> None:
    parts = part_of(np.array(sorted(keys), np.uint64), n_parts)
    assert (np.diff(parts) >= 0).all()
    assert parts.min() >= 0
    assert parts.max() < n_parts


def test_what_a_stopped_run_left_does_not_come_twice(tmp_path: Path) -> None:
    rows = pa.table({"key": pa.array([1], pa.uint64())})
    stopped = Spool(tmp_path / "spool", 1, ties=[])
    stopped.write(rows)
    stopped._flush()
    again = Spool(tmp_path / "spool", 1, ties=[])
    again.write(rows)
    assert [len(part) for part in again.read()] == [1]

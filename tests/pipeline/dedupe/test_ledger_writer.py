"""A ledger written in pieces has the same bytes as one written at once."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.dedupe.arrays import StringFile
from pipeline.dedupe.ledger_writer import LedgerSpool
from pipeline.storage import tables
from pipeline.storage.tables import write_ledger


@pytest.mark.parametrize(("n", "memory_bytes"), [(0, 1_000), (1, 1), (300, 1_000), (300, 10_000_000), (5_000, 50_000)])
def test_any_memory_writes_the_same_bytes(
    n: int, memory_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 128)
    names = [f"{i:05d}-document" for i in range(n)]
    random.Random(1).shuffle(names)
    ids = StringFile(tmp_path / "ids")
    ids.append(pa.array(names, pa.string()))
    spool, rows = LedgerSpool("dedupe", ids, tmp_path / "ledger", memory_bytes), []
    positions = np.arange(n)
    for reason, mine, other in (
        ("near_duplicate", positions[::3], positions[::3][::-1].copy()),
        ("exact_duplicate", positions[1::3], pa.array([f"foreign-{i}" for i in positions[1::3]], pa.string())),
        ("repeated_lines", positions[::2], None),
    ):
        decision = "changed" if other is None else "dropped"
        spool.add(reason, mine, value=mine / 2, threshold=0.5, other=other, decision=decision)
        others = [None] * len(mine) if other is None else other.tolist() if isinstance(other, np.ndarray) else other
        for position, seen in zip(mine.tolist(), others, strict=True):
            other_id = names[seen] if isinstance(seen, int) else None if seen is None else str(seen)
            rows.append(
                {"id": names[position], "stage": "dedupe", "decision": decision, "reason": reason}
                | {"value": position / 2, "threshold": 0.5, "other_id": other_id}
            )
        assert spool.counts[reason] == len(mine)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    spool.write(tmp_path / "a")
    write_ledger(tmp_path / "b", rows)
    assert (tmp_path / "a" / "ledger.parquet").read_bytes() == (tmp_path / "b" / "ledger.parquet").read_bytes()

"""Write the ledger of more decisions than memory holds, sorted by id and reason.

In: decisions about documents, each identified by its position in the corpus. Out: `ledger.parquet`, byte for byte what
`write_ledger` writes for the same rows. Memory: `memory_bytes`. Disk: the rows of the ledger once, uncompressed. Time: n log n.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.dedupe.arrays import StringFile
from pipeline.storage.sort import Sorter
from pipeline.storage.tables import LEDGER, TableWriter
from pipeline.text.columns import Fractions, Rows

CHUNK = 1 << 16  # decisions that are turned into rows at a time


class LedgerSpool:
    """Collect ledger rows: call `add` in any order, then `write` once."""

    def __init__(self, stage: str, ids: StringFile, folder: Path, memory_bytes: int) -> None:
        self.stage, self.ids = stage, ids
        self.counts: Counter[str] = Counter()  # reason → decisions
        self._sorter = Sorter(folder, LEDGER, ["id", "reason"], max(1, memory_bytes // 8))

    def add(
        self,
        reason: str,
        positions: Rows,
        *,
        value: Fractions,
        threshold: float,
        other: Rows | pa.StringArray | None = None,
        decision: str = "dropped",
    ) -> None:
        """Add one row for each position. `other` contains positions as well, or ids of documents that are not in this corpus."""
        self.counts[reason] += len(positions)
        for start in range(0, len(positions), CHUNK):
            part = slice(start, min(start + CHUNK, len(positions)))
            n = part.stop - part.start
            if isinstance(other, np.ndarray):
                other_id = self.ids.take(other[part])
            else:
                other_id = pa.nulls(n, pa.string()) if other is None else other[part]
            columns = {
                "id": self.ids.take(positions[part]),
                "stage": pa.repeat(self.stage, n),
                "decision": pa.repeat(decision, n),
                "reason": pa.repeat(reason, n),
                "value": pa.array(value[part]),
                "threshold": pa.repeat(threshold, n),
                "other_id": other_id,
            }
            self._sorter.write(pa.table(columns).cast(LEDGER))

    def write(self, out: Path) -> None:
        """Write `out/ledger.parquet`."""
        with TableWriter(out / "ledger.parquet", LEDGER) as writer:
            for table in self._sorter.read():
                writer.write(table)

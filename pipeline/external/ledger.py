"""The ledger of more decisions than memory holds: spooled as they come, written sorted by id and reason.

In: decisions about documents named by their place in the corpus. Out: `ledger.parquet`, byte for byte what `write_ledger` makes of
the same rows. Memory: `memory_bytes`. Disk: twice 33 bytes a decision. Time: n log n.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.external.arrays import Records, Spool, StringFile, part_count
from pipeline.ranking import Keys, cuts_of, id_keys, parts_by
from pipeline.tables import LEDGER, TableWriter
from pipeline.text.columns import Fractions, Rows

DECISION = np.dtype([("place", "<i8"), ("other", "<i8"), ("value", "<f8"), ("threshold", "<f8"), ("reason", "<u1")])
ROW_BYTES = 300  # of a decision as an Arrow row with two ids, beside its record
NO_OTHER = np.iinfo(np.int64).min


class LedgerSpool:
    """`add` in any order, then `write` once."""

    def __init__(self, stage: str, ids: StringFile, folder: Path, memory_bytes: int) -> None:
        folder.mkdir(parents=True)
        self.stage, self.ids, self.folder, self.memory_bytes = stage, ids, folder, memory_bytes
        self.counts: Counter[str] = Counter()  # reason → decisions
        self._reasons: list[tuple[str, str]] = []  # decision and reason
        self._foreign = StringFile(folder / "foreign")
        self._n_foreign = 0
        self._rows = Spool(folder / "rows", DECISION, 1, memory_bytes // 8)

    def add(
        self,
        reason: str,
        places: Rows,
        *,
        value: Fractions,
        threshold: float,
        other: Rows | pa.StringArray | None = None,
        decision: str = "dropped",
    ) -> None:
        """One row for each place. `other` are places too, or ids of documents that are not in this corpus."""
        if (decision, reason) not in self._reasons:
            self._reasons.append((decision, reason))
        records = np.empty(len(places), DECISION)
        records["place"], records["value"], records["threshold"] = places, value, threshold
        records["reason"] = self._reasons.index((decision, reason))
        if isinstance(other, np.ndarray):
            records["other"] = other
        elif other is None:
            records["other"] = NO_OTHER
        else:
            records["other"] = -1 - self._n_foreign - np.arange(len(other))
            self._n_foreign += len(other)
            self._foreign.append(other)
        self._rows.write(records, np.zeros(len(records), np.int64))
        self.counts[reason] += len(records)

    def write(self, out: Path, id_sample: Keys) -> None:
        """`out/ledger.parquet`. The sample of ids says where to cut; any sample gives the same file."""
        n_parts = part_count(self._rows.n_records * (DECISION.itemsize + ROW_BYTES), self.memory_bytes)
        cuts = cuts_of(id_sample, n_parts)
        parts = Spool(self.folder / "by_id", DECISION, n_parts, self.memory_bytes // 8)
        for records in self._rows.chunks(0):
            keys = id_keys(self.ids.take(records["place"])) if len(cuts) else None
            parts.write(records, parts_by(cuts, keys, len(records)))
        with TableWriter(out / "ledger.parquet", LEDGER) as writer:
            for table in self._tables(parts):
                writer.write(table)

    def _tables(self, parts: Spool) -> Iterator[pa.Table]:
        for part in range(parts.n_parts):
            yield self._table(parts.drain(part)).sort_by([("id", "ascending"), ("reason", "ascending")])

    def _table(self, records: Records) -> pa.Table:
        named = [self._reasons[code] for code in records["reason"].tolist()]
        return pa.table(
            {
                "id": self.ids.take(records["place"]),
                "stage": pa.repeat(self.stage, len(records)),
                "decision": pa.array([decision for decision, _ in named], pa.string()),
                "reason": pa.array([reason for _, reason in named], pa.string()),
                "value": pa.array(records["value"]),
                "threshold": pa.array(records["threshold"]),
                "other_id": self._others(records["other"]),
            }
        ).cast(LEDGER)

    def _others(self, other: Rows) -> pa.StringArray:
        is_foreign = (other < 0) & (other != NO_OTHER)
        order = np.argsort(np.concatenate([np.flatnonzero(m) for m in (other >= 0, is_foreign, other == NO_OTHER)]))
        found = [
            self.ids.take(other[other >= 0]),
            self._foreign.take(-1 - other[is_foreign]),
            pa.nulls(int(np.count_nonzero(other == NO_OTHER)), pa.string()),
        ]
        return pa.concat_arrays(found).take(pa.array(order))

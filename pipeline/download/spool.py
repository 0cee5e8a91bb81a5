"""Spool what a source yields to folders of sorted runs: one folder per part, either complete or absent.

In: the parts or batches of a reading, and the function that makes record batches of documents. Out: folders with runs
(pipeline/storage/sort.py) and a summary (counts and provenance). A part's folder is named by a hash of its bytes, its settings and
the code that reads it, so a resumed run finds it again even if the part has moved. Memory: one run per process.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pyarrow as pa
import xxhash

from pipeline.download.readers.document import Document, DocumentBatch, Reading, RowFormat, SourcePart
from pipeline.storage.sort import RunWriter
from pipeline.storage.tables import DOCS, REJECTS
from pipeline.workers.map import map_shards

MakeTables: TypeAlias = Callable[[list[Document]], Iterator[pa.RecordBatch]]
Advance: TypeAlias = Callable[[int], None]

N_HERE = 2  # up to so many parts or bytes are read in this process: starting workers takes as long
HERE_BYTES = 32_000_000
SUMMARY = "summary.json"
MAX_DETAIL = 300  # characters of an example
CODE = ("download", "storage", "text")  # rooms whose code determines what is read


class Summary(NamedTuple):
    """What a folder holds besides its runs. `examples` describe the first reject of each reason."""

    counts: Counter[str]
    reasons: Counter[str]
    rows: RowFormat
    origins: list[dict[str, object]]
    examples: dict[str, str]

    def merge(self, other: Summary) -> Summary:
        """Return the sum of both."""
        return Summary(
            self.counts + other.counts,
            self.reasons + other.reasons,
            self.rows.merge(other.rows),
            self.origins + other.origins,
            {**other.examples, **self.examples},
        )


EMPTY = Summary(Counter(), Counter(), RowFormat(), [], {})


def clear_unfinished(scratch: Path) -> None:
    """Remove folders that an interrupted run has left incomplete or unnamed."""
    for path in scratch.iterdir() if scratch.exists() else []:
        if not path.name.startswith("part-"):
            shutil.rmtree(path, ignore_errors=True)


def spool_reading(reading: Reading, scratch: Path, make: MakeTables, advance: Advance) -> list[Path]:
    """Read a source into folders and return them in its order."""
    scratch.mkdir(parents=True, exist_ok=True)
    if not reading.parts:
        return [_spool_batches(reading.batches, scratch, make, advance)]
    if reading.has_workers or len(reading.parts) <= N_HERE or reading.total_bytes < HERE_BYTES:
        return [_spool_part(scratch, make, part, advance) for part in reading.parts]
    folders: list[Path] = []
    for part, folder in zip(reading.parts, map_shards(partial(_spool_part, scratch, make), reading.parts), strict=True):
        folders.append(folder)
        advance(part.n_bytes)
    return folders


def _spool_part(scratch: Path, make: MakeTables, part: SourcePart, advance: Advance | None = None) -> Path:
    """Return the folder of one part, and create it if it does not exist; runs in a worker."""
    opened = part.open()
    if not opened.key:
        return _spool_batches(opened.batches, scratch, make, advance)
    folder = scratch / f"part-{xxhash.xxh3_128_hexdigest((opened.key + hash_code()).encode())}"
    if folder.exists():
        if advance:
            advance(part.n_bytes)
        return folder
    unnamed = _spool_batches(opened.batches, scratch, make, advance)
    try:
        unnamed.rename(folder)
    except OSError:  # two workers have read the same part at the same time
        shutil.rmtree(unnamed)
    return folder


def _spool_batches(batches: Iterator[DocumentBatch], scratch: Path, make: MakeTables, advance: Advance | None) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="reading-", dir=scratch))
    docs, rejects = RunWriter(folder, "docs", DOCS, ["id"]), RunWriter(folder, "rejects", REJECTS, REJECTS.names)
    summary = EMPTY
    for batch in batches:
        for table in make(batch.docs):
            docs.write(table)
        if batch.rejects:
            rejects.write(pa.RecordBatch.from_pylist([reject._asdict() for reject in batch.rejects], REJECTS))
        summary = summary.merge(_summarize(batch))
        if advance and batch.n_bytes:
            advance(batch.n_bytes)
    docs.flush()
    rejects.flush()
    (folder / SUMMARY).write_text(json.dumps(summary), encoding="utf-8")
    return folder


def _summarize(batch: DocumentBatch) -> Summary:
    examples: dict[str, str] = {}
    for reject in batch.rejects:
        examples.setdefault(reject.reason, f"{reject.locator}: {reject.detail[:MAX_DETAIL]}")
    reasons = Counter(reject.reason for reject in batch.rejects)
    return Summary(Counter(batch.counts), reasons, batch.rows, [dict(origin) for origin in batch.origins], examples)


def read_summary(folders: Sequence[Path]) -> Summary:
    """Read the summaries of these folders and return their sum."""
    total = EMPTY
    for folder in folders:
        counts, reasons, rows, origins, examples = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        n_rows, n_found, names = rows
        part = Summary(Counter(counts), Counter(reasons), RowFormat(n_rows, n_found, tuple(names)), origins, examples)
        total = total.merge(part)
    return total


def hash_code() -> str:
    """Return a hash of the code that reads sources: parts spooled by different code are not reused."""
    pipeline = Path(__file__).parent.parent
    digest = xxhash.xxh3_128()
    for path in sorted(path for room in CODE for path in (pipeline / room).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()

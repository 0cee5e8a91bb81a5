"""python -m pipeline download --takedowns data/takedowns.jsonl --out data/download --metrics data/metrics/download.json

In: the sources in params.yaml, and the tombstones of what has been taken down (docs/takedown.md). Out: `docs-*.parquet` (DOCS,
sorted by id), `rejects.parquet` (what could not be read, and why), `ledger.parquet` (documents that came twice or were taken
down) and `sources.json` (what was read: files with their hashes, packages with their versions, revisions). An id is xxh3_128 of
source, locator and text, so the same text from the same place is the same document; where it comes twice (a file that two
sources name) it is kept once. A source that can be read in parts is read by `MINIGPT_WORKERS` processes; a part that a stopped
run has finished is not read again (pipeline/download/spool.py), what it has fetched is not fetched again (pipeline/download/readers/fetch.py).

Order n log n in the documents. Memory: 0.8 GB (half of it pages of files, which the system may drop) and 0.4 GB for each
worker, whatever the corpus. Disk: the text once more in `scratch`.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.download.params import Download
from pipeline.download.readers.document import Document, Reading
from pipeline.download.sources import open_source
from pipeline.download.spool import Summary, clear_unfinished, read_summary, spool_reading
from pipeline.download.tombstones import REASON, Tombstones, match, parse, prepare
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics, write_json
from pipeline.frame.progress import Bar
from pipeline.storage.sort import merge_runs, run_paths
from pipeline.storage.tables import (
    BATCH_ROWS,
    DOCS,
    LEDGER,
    REJECTS,
    SHARD_BYTES,
    ShardWriter,
    TableWriter,
    dropped_rows,
    rechunked,
)

FETCHED = ("http", "huggingface")  # opened last: a path that is wrong shows before hours of fetching


def run(params: Download, *, takedowns: Path | None = None, out: Path, scratch: Path) -> Metrics:
    """Reads every source and writes the corpus. Raises `UserError` for a source that is not there, or no document at all."""
    stones = prepare(parse(takedowns.read_text(encoding="utf-8"), str(takedowns)) if takedowns else [])
    readings = _open(params)
    clear_unfinished(scratch)
    sizes = [reading.total_bytes for reading in readings]
    folders: list[Path] = []
    summaries: list[Summary] = []
    with Bar("download", sum(sizes) if all(sizes) else 0, "bytes") as bar:
        for reading in readings:
            made = spool_reading(reading, scratch, _tables, bar.advance)
            folders += made
            summaries.append(read_summary(made))
            if reading.check:
                reading.check(summaries[-1].rows)
    runs = run_paths(folders, "docs")
    if not runs:
        n_rejects = sum(summary.reasons.total() for summary in summaries)
        raise UserError(
            "download.sources: the corpus is empty", f"0 documents, {n_rejects} rejects", _advice(summaries)
        )
    out.mkdir(parents=True, exist_ok=True)
    with TableWriter(out / "rejects.parquet", REJECTS) as rejects:
        for table in merge_runs(run_paths(folders, "rejects"), REJECTS.names):
            rejects.write(table)
    named = [{"kind": source.kind, "name": getattr(source, "name", "")} for source in params.sources]
    read = [{**source, "read": summary.origins} for source, summary in zip(named, summaries, strict=True)]
    write_json(out / "sources.json", {"sources": read})
    written = _write_corpus(runs, stones, out)
    if not written["docs_out"]:
        raise UserError(
            "download.sources: the corpus is empty",
            f"all {written['docs_in']} were taken down",
            f"look at {takedowns}, or name other sources",
        )
    return {**written, **_counted(summaries)}


def _open(params: Download) -> list[Reading]:
    order = sorted(range(len(params.sources)), key=lambda at: (params.sources[at].kind in FETCHED, at))
    readings = {at: open_source(params.sources[at], f"download.sources.{at}") for at in order}
    return [readings[at] for at in range(len(params.sources))]


def document_id(document: Document) -> str:
    """32 hex digits that name the text and the place it comes from."""
    return xxhash.xxh3_128_hexdigest("\0".join((document.source, document.locator, document.text)).encode())


def _tables(docs: list[Document]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(docs), BATCH_ROWS):
        part = docs[start : start + BATCH_ROWS]
        columns = {name: [getattr(document, name) for document in part] for name in Document._fields}
        ids = [document_id(document) for document in part]
        yield pa.RecordBatch.from_pydict({"id": ids, **{name: columns[name] for name in DOCS.names[1:]}}, schema=DOCS)


def _write_corpus(runs: list[Path], stones: Tombstones, out: Path) -> Metrics:
    """The documents in order of id, range by range, and a ledger row for each that does not stay."""
    totals, dropped = Counter[str](), Counter[str]({"dropped_duplicate_id": 0, f"dropped_{REASON}": 0})
    per_source: Counter[str] = Counter()

    def kept_tables() -> Iterator[pa.Table]:
        for table in merge_runs(runs, ["id"]):
            kept, gone = _settled(table, stones)
            ledger.write(gone)
            totals.update(docs_in=table.num_rows, docs_out=kept.num_rows, text_bytes=_text_bytes(kept))
            dropped.update({f"dropped_{reason}": n for reason, n in _value_counts(gone.column("reason"))})
            per_source.update(dict(_value_counts(kept.column("source"))))
            yield kept

    with ShardWriter(out) as writer, TableWriter(out / "ledger.parquet", LEDGER) as ledger:
        for part in rechunked(kept_tables(), BATCH_ROWS, SHARD_BYTES):
            writer.write(part)
    sources: Counter[str] = Counter()
    for name, n in per_source.items():
        sources[f"docs_{_flat(name)}"] += n  # `docs_python_docs_numpy`: documents of the source `python_docs/numpy`
    return {**totals, **dropped, "n_sources": len(per_source), **sources}


def _settled(table: pa.Table, stones: Tombstones) -> tuple[pa.Table, pa.Table]:
    """The documents of a range of ids that stay, and ledger rows of the others, in order of id and reason."""
    covered = match(table, stones)
    is_taken, is_first = covered.is_valid(), _is_first_of_its_id(table)
    twice = table.filter(pc.and_(pc.invert(is_first), pc.invert(is_taken))).column("id")
    gone = [
        _gone(twice, "duplicate_id", twice),
        _gone(table.column("id").filter(is_taken), REASON, covered.filter(is_taken)),
    ]
    rows = pa.concat_tables(gone).sort_by([("id", "ascending"), ("reason", "ascending")])
    return table.filter(pc.and_(is_first, pc.invert(is_taken))), rows


def _gone(ids: pa.ChunkedArray, reason: str, other_id: pa.Array | pa.ChunkedArray) -> pa.Table:
    ones, reasons = pa.repeat(1.0, len(ids)), pa.repeat(reason, len(ids))
    rows = dropped_rows(ids, stage="download", reason=reasons, value=ones, threshold=ones, other_id=other_id)
    return rows.select(LEDGER.names).cast(LEDGER)


def _is_first_of_its_id(table: pa.Table) -> pa.Array:
    ids = table.column("id").combine_chunks()
    return pa.concat_arrays([pa.array([True]), pc.not_equal(ids[1:], ids[:-1])])


def _value_counts(column: pa.ChunkedArray) -> list[tuple[str, int]]:
    return [(str(row["values"]), int(row["counts"])) for row in column.value_counts().to_pylist()]


def _text_bytes(table: pa.Table) -> int:
    return int(pc.sum(pc.binary_length(table.column("text"))).as_py() or 0)


def _counted(summaries: list[Summary]) -> Metrics:
    counts: Counter[str] = Counter()
    for summary in summaries:
        counts.update(summary.counts)
        counts.update({f"rejects_{reason}": n for reason, n in summary.reasons.items()})
    return dict(counts)


def _flat(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).lower()


def _advice(summaries: list[Summary]) -> str:
    first = next((f" ({summary.reject})" for summary in summaries if summary.reject), "")
    return f"name at least one source that holds readable text{first}"

"""python -m pipeline download --takedowns data/takedowns.jsonl --out data/download --metrics data/metrics/download.json

In: the sources in params.yaml, and the tombstones of documents that have been taken down (docs/takedown.md). Out:
`docs-*.parquet` (DOCS, sorted by id), `rejects.parquet` (inputs that could not be read, with the reason), `ledger.parquet`
(duplicate ids and documents taken down) and `sources.json` (provenance: files with their hashes, packages with their versions,
revisions). An id is xxh3_128 of source, locator and text, so the same text from the same location is the same document; if it
occurs twice (a file that two sources name) it is kept once. Documents flagged `is_search_only` repeat another one under a further
title; the index has them, training text does not. A source that can be read in parts is read by `MINIGPT_WORKERS`
processes; parts that an interrupted run has finished are not read again (pipeline/download/spool.py), and files that it has
fetched are not fetched again (pipeline/download/readers/fetch.py).

Time: O(n log n) in the number of documents. Memory: 0.8 GB (half of it page cache, which the system may drop) and 0.4 GB per
worker, independent of the size of the corpus. Disk: one more copy of the text in `scratch`.
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
from pipeline.download.spool import EMPTY, Summary, clear_unfinished, read_summary, spool_reading
from pipeline.download.tombstones import REASON, Tombstones, match, prepare, read_tombstones
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics, write_json
from pipeline.frame.progress import Bar
from pipeline.storage.sort import list_runs, merge_runs
from pipeline.storage.tables import (
    BATCH_ROWS,
    DOCS,
    LEDGER,
    REJECTS,
    SHARD_BYTES,
    ShardWriter,
    TableWriter,
    make_dropped_rows,
    rechunk,
)

FETCHED = ("http", "huggingface")  # opened last, so that a wrong local path fails before hours of fetching


def run(params: Download, *, takedowns: Path | None = None, out: Path, scratch: Path) -> Metrics:
    """Read every source and write the corpus. Raise `UserError` if a source is missing or there is no document at all."""
    stones = prepare(read_tombstones(takedowns) if takedowns else [])
    readings = _open_sources(params)
    clear_unfinished(scratch)
    sizes = [reading.total_bytes for reading in readings]
    folders: list[Path] = []
    summaries: list[Summary] = []
    with Bar("download", sum(sizes) if all(sizes) else 0, "bytes") as bar:
        for source, reading in zip(params.sources, readings, strict=True):
            spooled = spool_reading(reading, scratch, make_tables, bar.advance)
            folders += spooled
            summaries.append(read_summary(spooled))
            if summaries[-1].reasons and not list_runs(spooled, "docs"):
                name = f"{source.kind}/{getattr(source, 'name', '')}".rstrip("/")
                print(f"download: {name} has no document, only rejects{_list_reasons(summaries[-1])}", flush=True)
            if reading.check:
                reading.check(summaries[-1].rows)
    runs = list_runs(folders, "docs")
    if not runs:
        _write_rejects(folders, scratch / "rejects.parquet")  # stays when the run has failed
        total = _sum_summaries(summaries)
        raise UserError(
            "download.sources: the corpus is empty",
            f"0 documents, {total.reasons.total()} rejects{_list_reasons(total)}",
            f"add at least one source with readable text; all rejects are in {scratch / 'rejects.parquet'}",
        )
    out.mkdir(parents=True, exist_ok=True)
    _write_rejects(folders, out / "rejects.parquet")
    sources = [{"kind": source.kind, "name": getattr(source, "name", "")} for source in params.sources]
    records = [{**source, "read": summary.origins} for source, summary in zip(sources, summaries, strict=True)]
    write_json(out / "sources.json", {"sources": records})
    metrics = _write_corpus(runs, stones, out)
    if not metrics["docs_out"]:
        raise UserError(
            "download.sources: the corpus is empty",
            f"all {metrics['docs_in']} documents were taken down",
            f"check {takedowns}, or add other sources",
        )
    return {**metrics, **_sum_counts(summaries)}


def _open_sources(params: Download) -> list[Reading]:
    order = sorted(range(len(params.sources)), key=lambda at: (params.sources[at].kind in FETCHED, at))
    readings = {at: open_source(params.sources[at], f"download.sources.{at}") for at in order}
    return [readings[at] for at in range(len(params.sources))]


def compute_document_id(document: Document) -> str:
    """Return 32 hex digits that identify the text and its location."""
    return xxhash.xxh3_128_hexdigest("\0".join((document.source, document.locator, document.text)).encode())


def make_tables(docs: list[Document]) -> Iterator[pa.RecordBatch]:
    """Yield the documents with their ids as record batches of at most `BATCH_ROWS` rows."""
    for start in range(0, len(docs), BATCH_ROWS):
        part = docs[start : start + BATCH_ROWS]
        columns = {name: [getattr(document, name) for document in part] for name in Document._fields}
        ids = [compute_document_id(document) for document in part]
        yield pa.RecordBatch.from_pydict({"id": ids, **{name: columns[name] for name in DOCS.names[1:]}}, schema=DOCS)


def _write_corpus(runs: list[Path], stones: Tombstones, out: Path) -> Metrics:
    """Write the documents in order of id, range by range, and a ledger row for each one dropped. Return the counts."""
    totals, dropped = Counter[str](), Counter[str]({"dropped_duplicate_id": 0, f"dropped_{REASON}": 0})
    per_source: Counter[str] = Counter()

    def iterate_kept() -> Iterator[pa.Table]:
        for table in merge_runs(runs, ["id"]):
            kept, rows = _split_dropped(table, stones)
            ledger.write(rows)
            totals.update(docs_in=table.num_rows, docs_out=kept.num_rows, text_bytes=_sum_text_bytes(kept))
            totals.update(search_only_docs=pc.sum(kept.column("is_search_only")).as_py() or 0)
            dropped.update({f"dropped_{reason}": n for reason, n in _count_values(rows.column("reason"))})
            per_source.update(dict(_count_values(kept.column("source"))))
            yield kept

    with ShardWriter(out) as writer, TableWriter(out / "ledger.parquet", LEDGER) as ledger:
        for part in rechunk(iterate_kept(), BATCH_ROWS, SHARD_BYTES):
            writer.write(part)
    sources: Counter[str] = Counter()
    for name, n in per_source.items():
        sources[f"docs_{_make_key(name)}"] += n  # `docs_python_docs_numpy`: documents of the source `python_docs/numpy`
    return {**totals, **dropped, "n_sources": len(per_source), **sources}


def _split_dropped(table: pa.Table, stones: Tombstones) -> tuple[pa.Table, pa.Table]:
    """Split a range of ids into the surviving documents and the ledger rows of the others, in order of id and reason."""
    keys = match(table, stones)
    is_taken_down, is_first = keys.is_valid(), _is_first_of_its_id(table)
    duplicates = table.filter(pc.and_(pc.invert(is_first), pc.invert(is_taken_down))).column("id")
    dropped = [
        _make_ledger_rows(duplicates, "duplicate_id", duplicates),
        _make_ledger_rows(table.column("id").filter(is_taken_down), REASON, keys.filter(is_taken_down)),
    ]
    rows = pa.concat_tables(dropped).sort_by([("id", "ascending"), ("reason", "ascending")])
    return table.filter(pc.and_(is_first, pc.invert(is_taken_down))), rows


def _make_ledger_rows(ids: pa.ChunkedArray, reason: str, other_id: pa.Array | pa.ChunkedArray) -> pa.Table:
    ones, reasons = pa.repeat(1.0, len(ids)), pa.repeat(reason, len(ids))
    rows = make_dropped_rows(ids, stage="download", reason=reasons, value=ones, threshold=ones, other_id=other_id)
    return rows.select(LEDGER.names).cast(LEDGER)


def _is_first_of_its_id(table: pa.Table) -> pa.Array:
    ids = table.column("id").combine_chunks()
    return pa.concat_arrays([pa.array([True]), pc.not_equal(ids[1:], ids[:-1])])


def _count_values(column: pa.ChunkedArray) -> list[tuple[str, int]]:
    return [(str(row["values"]), int(row["counts"])) for row in column.value_counts().to_pylist()]


def _sum_text_bytes(table: pa.Table) -> int:
    return int(pc.sum(pc.binary_length(table.column("text"))).as_py() or 0)


def _sum_counts(summaries: list[Summary]) -> Metrics:
    counts: Counter[str] = Counter()
    for summary in summaries:
        counts.update(summary.counts)
        counts.update({f"rejects_{reason}": n for reason, n in summary.reasons.items()})
    return dict(counts)


def _make_key(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name).lower()


def _write_rejects(folders: list[Path], path: Path) -> None:
    with TableWriter(path, REJECTS) as rejects:
        for table in merge_runs(list_runs(folders, "rejects"), REJECTS.names):
            rejects.write(table)


def _sum_summaries(summaries: list[Summary]) -> Summary:
    total = EMPTY
    for summary in summaries:
        total = total.merge(summary)
    return total


def _list_reasons(summary: Summary) -> str:
    """Return each reason with its number of rejects and an example, the most frequent first."""
    reasons = [f"{n} {reason} ({summary.examples[reason]})" for reason, n in summary.reasons.most_common()]
    return f": {'; '.join(reasons)}" if reasons else ""

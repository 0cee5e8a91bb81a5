"""python -m pipeline download --takedowns data/takedowns.jsonl --out data/download --metrics data/metrics/download.json

In: the sources in params.yaml, and the tombstones of what has been taken down (docs/takedown.md). Out: `docs-*.parquet`
(DOCS, sorted by id), `rejects.parquet` (what could not be read, and why) and `ledger.parquet` (documents that came twice or
were taken down). An id is xxh3_128 of source, locator and text, so the same text from the same place is the same document;
where it comes twice (a file that two sources name) it is kept once.
Order n log n in the documents. Memory: the whole corpus as Arrow columns, twice while it is sorted: about 3 bytes a byte
of text on top of 0.3 GB, so corpora up to a few GB.
"""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.errors import UserError
from pipeline.params import Download
from pipeline.progress import Bar
from pipeline.sources import Document, Reject, open_source
from pipeline.stage import Metrics
from pipeline.tables import (
    BATCH_ROWS,
    DOCS,
    LEDGER,
    REJECTS,
    ShardWriter,
    dropped_rows,
    write_ledger,
    write_table,
)
from pipeline.text.tombstones import REASON, match, parse, prepare


def run(params: Download, *, takedowns: Path | None = None, out: Path) -> Metrics:
    """Reads every source and writes the corpus. Raises `UserError` for a source that is not there, or no document at all."""
    stones = prepare(parse(takedowns.read_text(encoding="utf-8"), str(takedowns)) if takedowns else [])
    taken: list[pa.Table] = []
    readings = [open_source(source, f"download.sources.{at}") for at, source in enumerate(params.sources)]
    tables: list[pa.RecordBatch] = []
    rejects: list[Reject] = []
    counts: Counter[str] = Counter()
    sizes = [reading.total_bytes for reading in readings]
    with Bar("download", sum(sizes) if all(sizes) else 0, "bytes") as bar:
        for reading in readings:
            for batch in reading.batches:
                for made in _tables(batch.docs):
                    keys = match(made, stones)
                    taken.append(_taken(made, keys))
                    tables.append(made.filter(keys.is_null()))
                rejects += batch.rejects
                counts.update(batch.counts)
                if batch.n_bytes:
                    bar.advance(batch.n_bytes)
    if not any(table.num_rows for table in tables):
        raise UserError(
            "download.sources: the corpus is empty", f"0 documents, {len(rejects)} rejects", _advice(rejects)
        )
    corpus = pa.Table.from_batches(tables, DOCS).sort_by("id")
    kept = _first_of_each_id(corpus)
    with ShardWriter(out) as writer:
        for part in kept.to_batches(max_chunksize=BATCH_ROWS):
            writer.write(part)
    write_table(out / "rejects.parquet", _rejects(rejects))
    gone = pa.concat_tables([_duplicates(corpus), *taken])
    write_ledger(out, gone)
    return _metrics(corpus, kept, rejects, counts, sum(table.num_rows for table in taken))


def document_id(document: Document) -> str:
    """32 hex digits that name the text and the place it comes from."""
    return xxhash.xxh3_128_hexdigest("\0".join((document.source, document.locator, document.text)).encode())


def _tables(docs: list[Document]) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(docs), BATCH_ROWS):
        part = docs[start : start + BATCH_ROWS]
        columns = {name: [getattr(document, name) for document in part] for name in Document._fields}
        ids = [document_id(document) for document in part]
        yield pa.RecordBatch.from_pydict({"id": ids, **{name: columns[name] for name in DOCS.names[1:]}}, schema=DOCS)


def _first_of_each_id(corpus: pa.Table) -> pa.Table:
    ids = corpus.column("id").combine_chunks()
    is_new = pc.not_equal(ids[1:], ids[:-1]) if len(ids) > 1 else pa.array([], pa.bool_())
    return corpus.filter(pa.concat_arrays([pa.array([True]), is_new]))


def _taken(made: pa.RecordBatch, keys: pa.StringArray) -> pa.Table:
    """A ledger row for each document that a tombstone covers; `other_id` is the tombstone. Its text is kept nowhere."""
    is_taken = keys.is_valid()
    ids, ones = made.column("id").filter(is_taken), pa.repeat(1.0, is_taken.true_count)
    reason = pa.repeat(REASON, len(ids))
    return dropped_rows(
        ids, stage="download", reason=reason, value=ones, threshold=ones, other_id=keys.filter(is_taken)
    )


def _duplicates(corpus: pa.Table) -> pa.Table:
    ids = corpus.column("id").to_pylist()
    row = {"stage": "download", "decision": "dropped", "reason": "duplicate_id", "value": 1.0, "threshold": 1.0}
    twice = [{**row, "id": after, "other_id": after} for before, after in itertools.pairwise(ids) if before == after]
    return pa.Table.from_pylist(twice, LEDGER)


def _rejects(rejects: list[Reject]) -> pa.Table:
    rows = [reject._asdict() for reject in rejects]
    return pa.Table.from_pylist(rows, REJECTS).sort_by([(name, "ascending") for name in REJECTS.names])


def _metrics(
    corpus: pa.Table, kept: pa.Table, rejects: Iterable[Reject], counts: Counter[str], n_taken: int
) -> Metrics:
    """Flat numbers; `docs_python_docs_numpy` is the number of documents of the source `python_docs/numpy`."""
    per_source = pc.value_counts(kept.column("source"))
    sources = {str(row["values"]): int(row["counts"]) for row in per_source.to_pylist()}
    reasons = Counter(f"rejects_{reject.reason}" for reject in rejects)
    return {
        "docs_in": corpus.num_rows + n_taken,
        "docs_out": kept.num_rows,
        "dropped_duplicate_id": corpus.num_rows - kept.num_rows,
        "dropped_takedown": n_taken,
        "text_bytes": int(pc.sum(pc.binary_length(kept.column("text"))).as_py()),
        "n_sources": len(sources),
        **counts,
        **reasons,
        **Counter({f"docs_{_flat(name)}": n for name, n in sources.items()}),
    }


def _flat(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name).lower()


def _advice(rejects: list[Reject]) -> str:
    first = f" ({rejects[0].reason}: {rejects[0].locator})" if rejects else ""
    return f"name at least one source that holds readable text{first}"

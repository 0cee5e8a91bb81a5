"""Cut the filtered documents into passages and index them, for the assistant to search and for conversations to quote.

In: documents. Out: `passages.sqlite`, the database that `search_docs` searches, part of every registered version; and
`passages.parquet`, all passages with the sentence to quote, from which conversations are made. Memory: a few times
`max_sample_bytes`. Time: O(characters), about 4 s for 40 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.index.database import write_database
from pipeline.index.params import Index
from pipeline.index.passages import Doc, cut_passages
from pipeline.storage.sample import sample_docs
from pipeline.storage.tables import BATCH_ROWS, PASSAGES, write_table
from pipeline.text.passage import Passage


def run(params: Index, *, docs: Path, out: Path) -> Metrics:
    """Write both files. Raises `UserError` if the documents give no passage."""
    passages = list(cut_passages(read_sample(docs, params.max_sample_bytes, params.seed), params.passage_chars))
    if not passages:
        raise UserError("index: no passages to search", f"{docs} gives none", "add sources, or loosen filter")
    n_indexed = write_database(out / "passages.sqlite", passages, params.max_bytes)
    write_table(out / "passages.parquet", make_table(passages))
    return {
        "passages": n_indexed,
        "passages_left_out": len(passages) - n_indexed,
        "symbols": sum(passage.is_symbol for passage in passages),
        "text_bytes": sum(len(passage.text.encode()) for passage in passages),
        "sqlite_bytes": (out / "passages.sqlite").stat().st_size,
    }


def read_sample(folder: Path, max_bytes: int, seed: int) -> Iterator[Doc]:
    """Yield the documents in order of id; a sample of them if they have more than `max_bytes` of text."""
    table = sample_docs(folder, Doc._fields, max_bytes, seed).sort_by("id")
    for batch in table.to_batches(max_chunksize=BATCH_ROWS):
        yield from map(Doc, *(batch.column(name).to_pylist() for name in Doc._fields))


def make_table(passages: Sequence[Passage]) -> pa.Table:
    """Return passages as a table of `PASSAGES`."""
    columns = zip(*passages, strict=True)
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, PASSAGES, strict=True)], PASSAGES)

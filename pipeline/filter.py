"""Keeps documents in the wanted language, of readable quality, without endless repetition, under an allowed licence.

In: a folder of documents, and data/seed/languages/*.txt (one sentence a line, one file a language). Out: the documents that stay,
in the same order, some of them rewritten; `ledger.parquet` with the first rule that each dropped one broke, and what was changed
in those that stay; `scores.parquet` with every score of every document, dropped ones too, and `rules.json`, so that other
thresholds can be tried without reading a text; `language.bin`, the fastText model trained here. docs/filters.md has the rule sets
and their papers. A stopped run goes on with the shards it has scored. Memory: one shard of texts and its scores.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.engine import file_key, map_files
from pipeline.errors import UserError
from pipeline.language_model import load_model, train_language
from pipeline.params import Filter
from pipeline.progress import Bar
from pipeline.stage import Metrics
from pipeline.tables import (
    DOCS,
    LEDGER,
    ShardWriter,
    TableWriter,
    count_docs,
    read_shard,
    read_table,
    shard_paths,
    write_table,
)
from pipeline.text import steps
from pipeline.text.rules import PASSES, Rule, Step, check_some_stay, explain, first_broken, run_steps, tally


def run(params: Filter, *, docs: Path, languages: Path, scratch: Path, out: Path) -> Metrics:
    """Trains the language model, scores every shard, applies the rules, writes what stays."""
    paths = shard_paths(docs)
    if count_docs(docs) == 0:
        raise UserError(f"filter: no documents in {docs}", "an empty corpus", "look at download.sources in params.yaml")
    model = out / "language.bin"
    accuracy, false_wanted = train_language(params.language, languages, model)
    rules = [each for step in list_steps(params, model) for each in step.rules]
    (out / "rules.json").write_text(json.dumps([each._asdict() for each in rules], indent=2) + "\n", encoding="utf-8")
    score = partial(score_shard, params=params, model=model)
    settings = f"{params.model_dump_json()} {file_key(model, '')}"
    scored = map_files(score, paths, results=scratch / "scored", settings=settings)
    with Bar("filter", len(paths), "shards") as bar:
        counts = decide(zip(paths, scored, strict=True), rules, out, bar)
    check_some_stay(counts, rules)
    return {**counts, "language_heldout_accuracy_frac": accuracy, "language_false_english_frac": false_wanted}


def list_steps(params: Filter, model: Path) -> list[Step]:
    """Every part of the filter that the params ask for, in the order in which they are asked: a new one is one line here."""
    language, quality, repeated = params.language, params.gopher_quality, params.gopher_repetition
    c4, fineweb = params.c4, params.fineweb
    wanted = [
        steps.language(partial(load_model, model), language.keep, language.min_score),
        steps.gopher(quality and quality.model_dump(), repeated and repeated.model_dump()),
        steps.web(c4 and c4.model_dump(), fineweb and fineweb.model_dump()),
        steps.licence(params.licences),
    ]
    return [step for step in wanted if step]


def score_shard(path: Path, result: Path, params: Filter, model: Path) -> None:
    """Every score of every document of a shard, and the texts that a step rewrote: runs in a worker."""
    wanted = list_steps(params, model)
    none = pa.RecordBatch.from_pylist([], schema=DOCS)
    write_table(result, pa.Table.from_batches([run_steps(batch, wanted) for batch in (*read_shard(path), none)]))


def decide(scored: Iterable[tuple[Path, Path]], rules: Sequence[Rule], out: Path, bar: Bar) -> Metrics:
    """Writes the documents that stay, the ledger and the scores, a shard at a time; returns the counts."""
    counts: Counter[str] = Counter()
    with ExitStack() as files:
        docs = files.enter_context(ShardWriter(out))
        ledger = files.enter_context(TableWriter(out / "ledger.parquet", LEDGER))
        stored = files.enter_context(TableWriter(out / "scores.parquet"))
        for path, result in scored:
            found = read_table(result)
            scores = found.drop_columns(["text"])
            broken = first_broken(scores, rules)
            rows = explain(scores, broken, rules, "filter")
            stored.write(scores)
            ledger.write(rows)
            for batch in stay(path, found.column("text"), broken == PASSES):
                docs.write(batch)
                counts["text_bytes_out"] += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
            counts.update(tally(scores, rows, rules))
            bar.advance()
    return dict(counts)


def stay(path: Path, texts: pa.ChunkedArray, is_kept: npt.NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    """The documents of a shard that stay, each with its rewritten text where that is not null."""
    first = 0
    for batch in read_shard(path):
        stop = first + batch.num_rows
        text = pc.coalesce(texts[first:stop].combine_chunks(), batch.column("text"))
        whole = batch.set_column(batch.schema.get_field_index("text"), "text", text)
        yield whole.filter(pa.array(is_kept[first:stop]))
        first = stop

"""Keeps documents in the wanted language, of readable quality, without endless repetition, under an allowed license.

In: a folder of documents, data/seed/languages/*.txt (one sentence per line, one file per language), data/evaluation (the
evaluation sets that `decontamination` names), data/examples (files that `quality_classifier` and `language.model` name). Out: the
surviving documents in the same order, some of them rewritten; `ledger.parquet` with the first rule that each dropped one broke,
and what was changed in the others; `scores.parquet` with every score of every document, dropped ones too, and `rules.json`, so
that other thresholds can be tried without reading a text; `language.bin`, the fastText model. docs/filters.md has the rule sets
and their papers. A stopped run goes on with the shards it has scored. Memory: one shard of texts and its scores.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.filter.chosen_steps import (
    Inputs,
    check_licenses,
    list_steps,
    prepare,
    settle,
    threshold_metrics,
    write_rules,
)
from pipeline.filter.contamination_sets import contaminated_metrics
from pipeline.filter.decisions import PASSES, Rule, check_some_stay, explain, first_broken, run_steps, tally
from pipeline.filter.params import Filter
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import Bar
from pipeline.storage.tables import (
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
from pipeline.text.columns import Rows
from pipeline.workers.results import map_files


def run(
    params: Filter, *, docs: Path, languages: Path, sets: Path, examples: Path, scratch: Path, out: Path
) -> Metrics:
    """Prepare models, score every shard, settle the rules, write the surviving documents."""
    paths = shard_paths(docs)
    if count_docs(docs) == 0:
        raise UserError(f"filter: no documents in {docs}", "an empty corpus", "look at download.sources in params.yaml")
    check_licenses(params.licenses, paths)
    files, metrics = prepare(params, Inputs(docs, languages, sets, examples), scratch, out)
    score = partial(score_shard, params=params)
    with Bar("filter", len(paths), "shards") as bar:
        scored: list[Path] = []
        for result in map_files(
            score, paths, results=scratch / "scored", settings=params.model_dump_json(), extras=files
        ):
            scored.append(result)
            bar.advance()
    rules = settle([each for step in list_steps(params, files) for each in step.rules], params, scored)
    write_rules(out / "rules.json", rules)
    counts = decide(zip(paths, scored, strict=True), rules, out)
    check_some_stay(counts, rules)
    return {**metrics, **counts, **threshold_metrics(rules)}


def score_shard(path: Path, result: Path, *files: Path, params: Filter) -> None:
    """Every score of every document of a shard, and the texts that a step rewrote: runs in a worker."""
    wanted = list_steps(params, files)
    none = pa.RecordBatch.from_pylist([], schema=DOCS)
    write_table(result, pa.Table.from_batches([run_steps(batch, wanted) for batch in (*read_shard(path), none)]))


def decide(scored: Iterable[tuple[Path, Path]], rules: Sequence[Rule], out: Path) -> Metrics:
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
            counts.update(contaminated_metrics(scores, is_contaminated(broken, rules)))
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


def is_contaminated(broken: Rows, rules: Sequence[Rule]) -> npt.NDArray[np.bool_]:
    """Which documents went because they hold pieces of evaluation sets."""
    return np.isin(broken, [place for place, each in enumerate(rules) if each.reason == "contaminated"])

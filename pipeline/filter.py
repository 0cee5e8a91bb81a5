"""Keeps documents in the wanted language, of readable quality, without endless repetition, under an allowed licence.

In: a folder of documents, and data/seed/languages/*.txt (one sentence a line, one file a language). Out: the documents that stay,
in the same order; `ledger.parquet` with the first rule that each dropped one broke; `scores.parquet` with every score of every
document, dropped ones too, and `rules.json`, so that other thresholds can be tried without reading a text; `language.bin`, the
fastText model trained here. Rules: Rae et al. 2021 (Gopher); language: Penedo et al. 2024 (FineWeb). Memory: a batch of texts,
all scores.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.engine import map_shards
from pipeline.errors import UserError
from pipeline.language_model import load_model, train_language
from pipeline.params import Filter
from pipeline.progress import Bar
from pipeline.stage import Metrics
from pipeline.tables import (
    DOCS,
    copy_docs,
    count_docs,
    dropped_rows,
    read_shard,
    shard_paths,
    write_ledger,
    write_table,
)
from pipeline.text.columns import Rows
from pipeline.text.language import judge, prose
from pipeline.text.licences import allowed_frac
from pipeline.text.quality import quality
from pipeline.text.repetition import repetition
from pipeline.text.rules import PASSES, Rule, first_broken, rule

# Shards that this process does itself: starting workers takes as long, and they find the kernels compiled.
N_HERE = 6


def run(params: Filter, *, docs: Path, languages: Path, out: Path) -> Metrics:
    """Trains the language model, scores every shard, applies the rules, writes what stays."""
    paths = shard_paths(docs)
    if count_docs(docs) == 0:
        raise UserError(f"filter: no documents in {docs}", "an empty corpus", "look at download.sources in params.yaml")
    model = out / "language.bin"
    accuracy, false_wanted = train_language(params.language, languages, model)
    score = partial(score_shard, params=params, model=model)
    parts: list[pa.Table] = []
    with Bar("filter", len(paths), "shards") as bar:
        for done in chain(map(score, paths[:N_HERE]), map_shards(score, paths[N_HERE:])):
            parts.append(done)
            bar.advance()
    scores = pa.concat_tables(parts)
    rules = list_rules(params)
    broken = first_broken(scores, rules)
    dropped = count_reasons(broken, rules, scores.num_rows)
    write_table(out / "scores.parquet", scores)
    (out / "rules.json").write_text(json.dumps([each._asdict() for each in rules], indent=2) + "\n", encoding="utf-8")
    write_ledger(out, explain(scores, broken, rules))
    return {
        "docs_in": scores.num_rows,
        "docs_out": int((broken == PASSES).sum()),
        **{f"dropped_{reason}": n for reason, n in dropped.items()},
        "language_heldout_accuracy_frac": accuracy,
        "language_false_english_frac": false_wanted,
        "text_bytes_out": copy_docs(paths, broken == PASSES, out),
    }


def score_shard(path: Path, params: Filter, model: Path) -> pa.Table:
    """Every score of every document of a shard: runs in a worker."""
    columns = ["id", "text", "licence"]
    none = pa.RecordBatch.from_pylist([], schema=pa.schema([DOCS.field(name) for name in columns]))
    return pa.Table.from_batches([score_batch(batch, params, model) for batch in (*read_shard(path, columns), none)])


def score_batch(batch: pa.RecordBatch, params: Filter, model: Path) -> pa.RecordBatch:
    """One column a score, named as the rules name them."""
    texts, repeated = batch.column("text"), params.gopher_repetition
    found = judge(load_model(model), prose(texts), params.language.keep)
    figures = [
        quality(texts),
        repetition(texts, sorted(repeated.max_top_ngram_char_frac), sorted(repeated.max_dup_ngram_char_frac)),
    ]
    columns = {
        "id": batch.column("id"),
        "language": found.language,
        "language_score": pa.array(found.score),
        **{name: part.column(name) for part in figures for name in part.schema.names},
        "licence_allowed": pa.array(allowed_frac(batch.column("licence"), params.licences)),
    }
    return pa.record_batch(columns)


def list_rules(params: Filter) -> list[Rule]:
    """All rules in the order in which they are asked."""
    rules = [Rule("language", "language_score", "min", params.language.min_score)]
    rules += [rule(name, value) for name, value in params.gopher_quality.model_dump().items()]
    for name, value in params.gopher_repetition.model_dump().items():
        steps = (
            {name: value}
            if not isinstance(value, dict)
            else {name.replace("ngram", f"{n}gram"): value[n] for n in sorted(value)}
        )
        rules += [rule(step, threshold) for step, threshold in steps.items()]
    return [*rules, Rule("licence", "licence_allowed", "min", 1.0)]


def count_reasons(broken: Rows, rules: Sequence[Rule], n_docs: int) -> dict[str, int]:
    """Documents dropped by each rule. Raises `UserError` if none are left."""
    counts = {rules[place].reason: n for place, n in sorted(Counter(broken.tolist()).items()) if place != PASSES}
    counts = {each.reason: counts.get(each.reason, 0) for each in rules}
    if n_docs == sum(counts.values()):
        reason, n = max(counts.items(), key=lambda item: item[1])
        raise UserError(
            "filter: no document is left",
            f"{n} of {n_docs} were dropped by {reason}",
            f"look at filter.…{reason} in params.yaml",
        )
    return counts


def explain(scores: pa.Table, broken: Rows, rules: Sequence[Rule]) -> pa.Table:
    """A ledger row for each dropped document."""
    rows = np.flatnonzero(broken != PASSES)
    places = broken[rows]
    value = np.zeros(len(rows), np.float64)
    for place in np.unique(places):
        value[places == place] = scores.column(rules[place].score).to_numpy()[rows[places == place]]
    return dropped_rows(
        scores.column("id").take(pa.array(rows)),
        stage="filter",
        reason=np.array([each.reason for each in rules])[places],
        value=value,
        threshold=np.array([each.threshold for each in rules])[places],
        other_id=pa.repeat("", len(rows)),
    )

"""Keep documents in a wanted language, of readable quality, without excessive repetition, under an allowed license.

In: a folder of documents, data/seed/languages/*.txt (one sentence per line, one file per language), data/evaluation (the
evaluation sets that `decontamination` names), data/examples (files that `quality_classifier` and `language.model` name). Out: the
surviving documents in the same order, some of them rewritten; `ledger.parquet` with the first rule that each dropped document
broke, and what was changed in the others; `scores.parquet` with every score of every document, dropped ones included, and
`rules.json`, so that other thresholds can be tried without reading a text; `language.bin`, the fastText model. docs/filters.md has
the rule sets and their papers. An interrupted run resumes with the shards that are not scored yet. Memory: one shard of texts and
its scores.

Documents of `search_sources` that only break rules about the quality of text remain with the flag `is_search_only`: no model learns
from them, and the index has their names. Licenses, languages, evaluation sets and personal data apply to them as to all others.

To add a rule: a pure function `texts → one column per rule` in rules/, its threshold `min_…` or `max_…` in params.py, and one line
in `steps.list_steps` (`make_rule_step`). The score, `dropped_<rule>`, the ledger rows, rules.json and `replay` need no code.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.filter.decisions import (
    PASSES,
    SEARCH_ONLY,
    Rule,
    count_decisions,
    find_first_broken,
    find_search_only,
    make_ledger_rows,
    make_search_only_rows,
    run_steps,
)
from pipeline.filter.licenses import check_licenses
from pipeline.filter.params import Filter
from pipeline.filter.prepare import Inputs, prepare_files
from pipeline.filter.steps import list_steps
from pipeline.filter.thresholds import get_threshold_metrics, resolve_keep_frac, write_rules
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics
from pipeline.frame.progress import Bar
from pipeline.screening.evaluation_sets import count_contaminated_docs
from pipeline.storage.tables import (
    DOCS,
    LEDGER,
    ShardWriter,
    TableWriter,
    count_docs,
    flag_search_only,
    list_shards,
    read_shard,
    read_table,
    write_table,
)
from pipeline.text.columns import Rows
from pipeline.workers.results import map_files


def run(
    params: Filter, *, docs: Path, languages: Path, sets: Path, examples: Path, scratch: Path, out: Path
) -> Metrics:
    """Prepare the models, score every shard, resolve the thresholds, write the surviving documents."""
    paths = list_shards(docs)
    if count_docs(docs) == 0:
        raise UserError(f"filter: no documents in {docs}", "an empty corpus", "look at download.sources in params.yaml")
    check_licenses(params.licenses, paths)
    files, metrics = prepare_files(params, Inputs(docs, languages, sets, examples), scratch, out)
    score = partial(score_shard, params=params)
    scored: list[Path] = []
    with Bar("filter", len(paths), "shards") as bar:
        for result in map_files(
            score, paths, results=scratch / "scored", settings=params.model_dump_json(), extras=files
        ):
            scored.append(result)
            bar.advance()
    rules = [rule for step in list_steps(params, files) for rule in step.rules]
    rules = resolve_keep_frac(rules, params.quality_classifier, scored)
    write_rules(out / "rules.json", rules)
    counts = decide(zip(paths, scored, strict=True), rules, params.search_sources, out)
    check_some_remain(counts, rules)
    return {**metrics, **counts, **get_threshold_metrics(rules)}


def score_shard(path: Path, result: Path, *files: Path, params: Filter) -> None:
    """Write every score of every document of a shard, and the texts that a step rewrote. Runs in a worker."""
    steps = list_steps(params, files)
    empty = pa.RecordBatch.from_pylist([], schema=DOCS)  # gives a shard without rows its columns
    write_table(result, pa.Table.from_batches([run_steps(batch, steps) for batch in (*read_shard(path), empty)]))


def decide(
    scored: Iterable[tuple[Path, Path]], rules: Sequence[Rule], search_sources: Sequence[str], out: Path
) -> Metrics:
    """Write the surviving documents, the ledger and the scores, shard by shard. Return the counts."""
    counts: Counter[str] = Counter({f"changed_{SEARCH_ONLY}_docs": 0, "search_only_docs": 0})
    with ExitStack() as files:
        docs = files.enter_context(ShardWriter(out))
        ledger = files.enter_context(TableWriter(out / "ledger.parquet", LEDGER))
        stored = files.enter_context(TableWriter(out / "scores.parquet"))
        for path, result in scored:
            table = read_table(result)
            scores = table.drop_columns(["text"])
            broken = find_first_broken(scores, rules)
            is_saved = find_search_only(scores, broken, rules) & is_from(path, search_sources)
            saved_rows = make_search_only_rows(scores, broken, is_saved, rules, "filter")
            broken = np.where(is_saved, PASSES, broken)
            rows = make_ledger_rows(scores, broken, rules, "filter")
            stored.write(scores)
            ledger.write(pa.concat_tables([rows, saved_rows]).sort_by([("id", "ascending"), ("reason", "ascending")]))
            counts[f"changed_{SEARCH_ONLY}_docs"] += len(saved_rows)
            for batch in read_survivors(path, table.column("text"), broken == PASSES, is_saved):
                docs.write(batch)
                counts["search_only_docs"] += pc.sum(batch.column("is_search_only")).as_py() or 0
                counts["text_bytes_out"] += pc.sum(pc.binary_length(batch.column("text"))).as_py() or 0
            counts.update(count_decisions(scores, rows, rules))
            counts.update(count_contaminated_docs(scores, is_contaminated(broken, rules)))
    return dict(counts)


def is_from(path: Path, sources: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which documents of a shard are from sources with one of these prefixes."""
    prefixes = tuple(sources)
    flags = [
        source.startswith(prefixes) for batch in read_shard(path, ["source"]) for source in batch["source"].to_pylist()
    ]
    return np.array(flags, np.bool_)


def read_survivors(
    path: Path, texts: pa.ChunkedArray, is_kept: npt.NDArray[np.bool_], is_saved: npt.NDArray[np.bool_]
) -> Iterator[pa.RecordBatch]:
    """Yield the surviving documents of a shard, each with its rewritten text where `texts` is not null, and flagged where it
    remains for search only."""
    first = 0
    for batch in read_shard(path):
        stop = first + batch.num_rows
        text = pc.coalesce(texts[first:stop].combine_chunks(), batch.column("text"))
        rewritten = batch.set_column(batch.schema.get_field_index("text"), "text", text)
        yield flag_search_only(rewritten, is_saved[first:stop]).filter(pa.array(is_kept[first:stop]))
        first = stop


def is_contaminated(broken: Rows, rules: Sequence[Rule]) -> npt.NDArray[np.bool_]:
    """Return which documents were dropped for sharing n-grams with evaluation sets."""
    return np.isin(broken, [index for index, rule in enumerate(rules) if rule.reason == "contaminated"])


def check_some_remain(counts: Mapping[str, float], rules: Sequence[Rule]) -> None:
    """Raise `UserError` that names the most frequent reason if no document is left."""
    if counts["docs_out"] == 0:
        most = max(rules, key=lambda rule: counts[f"dropped_{rule.reason}"])
        raise UserError(
            "filter: no document is left",
            f"{counts[f'dropped_{most.reason}']} of {counts['docs_in']} were dropped by {most.reason}",
            f"look at {most.param} in params.yaml",
        )

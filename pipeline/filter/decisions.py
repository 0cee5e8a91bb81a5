"""Turn scores and thresholds into decisions: a document is dropped for the first rule that it breaks.

In: a table of scores, one row per document. Out: for each document the index of the broken rule (-1: none), and the ledger rows.
Only the steps read texts, so another threshold can be tried on stored scores. Memory and time: linear in the scores.

A step sees each batch of documents once. It returns the texts (rewritten ones for the steps after it), one column per score, and
lists the rules on these scores. A column `changed_<reason>` counts how often a step rewrote a text.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.columns import Rows, to_one_array

PASSES = -1
SEARCH_ONLY = "search_only"
# Sections whose rules say what a model should learn from, not what may be shown.
QUALITY = (
    "filter.gopher_quality.",
    "filter.gopher_repetition.",
    "filter.c4.",
    "filter.fineweb.",
    "filter.quality_classifier.",
)
CHANGED = "changed_"


class Rule(NamedTuple):
    """A threshold: documents survive whose `score` is at least (`min`) or at most (`max`) the threshold.

    `param` is the threshold's dotted name. `other` is the score column that names the other document or item, if there is one.
    """

    reason: str
    score: str
    side: str
    threshold: float
    param: str = ""
    other: str = ""


class Scored(NamedTuple):
    """The result of a step: the texts as it leaves them, and one column per score."""

    texts: pa.StringArray
    scores: pa.RecordBatch


class FilterStep(NamedTuple):
    """The rules of one part of the filter, and its function `score(texts, batch)`; `batch` is as the stage read it."""

    rules: Sequence[Rule]
    score: Callable[[pa.StringArray, pa.RecordBatch], Scored]


def make_rule(name: str, threshold: float, section: str = "") -> Rule:
    """Return the rule of a threshold: `min_words` is a rule on the score `words` whose reason is `min_words`."""
    side, _, score = name.partition("_")
    assert side in ("min", "max"), f"{name}: a threshold's name begins with min_ or max_"
    return Rule(name, score, side, float(threshold), f"{section}.{name}" if section else "")


def list_rules(section: str, thresholds: Mapping[str, Any]) -> list[Rule]:
    """Return the rules of a section of the params; a threshold of None is off.

    A dictionary has one rule for each n: `max_top_ngram_char_frac: {2: …}`.
    """
    rules: list[Rule] = []
    for name, value in thresholds.items():
        if isinstance(value, dict):
            named = [(make_rule(name.replace("ngram", f"{n}gram"), value[n]), n) for n in sorted(value)]
            rules += [rule._replace(param=f"{section}.{name}.{n}") for rule, n in named]
        elif value is not None:
            rules.append(make_rule(name, value, section))
    return rules


def run_steps(batch: pa.RecordBatch, steps: Sequence[FilterStep]) -> pa.RecordBatch:
    """Return `id`, all scores of all steps, and `text`: the rewritten text, null where no step changed it."""
    original = texts = batch.column("text")
    columns: dict[str, pa.Array] = {"id": batch.column("id")}
    for step in steps:
        texts, scores = step.score(texts, batch)
        assert not columns.keys() & set(scores.schema.names), "two scores have the same name"
        columns |= {name: scores.column(name) for name in scores.schema.names}
    is_same = pa.repeat(True, len(texts)) if texts is original else pc.equal(texts, original)
    columns["text"] = to_one_array(pc.if_else(is_same, pa.scalar(None, pa.string()), texts))
    return pa.record_batch(columns)


def find_first_broken(scores: pa.Table, rules: Sequence[Rule]) -> Rows:
    """Return for each document the index in `rules` of the first one that it breaks, or `PASSES`."""
    broken = np.full(scores.num_rows, PASSES, np.int64)
    for index, each in reversed(list(enumerate(rules))):
        values = scores.column(each.score).to_numpy()
        broken[values < each.threshold if each.side == "min" else values > each.threshold] = index
    return broken


def find_search_only(scores: pa.Table, broken: Rows, rules: Sequence[Rule]) -> npt.NDArray[np.bool_]:
    """Return for each document whether it breaks rules about the quality of text and no other one."""
    strict = [rule for rule in rules if not rule.param.startswith(QUALITY)]
    return (broken != PASSES) & (find_first_broken(scores, strict) == PASSES)


def make_search_only_rows(
    scores: pa.Table, broken: Rows, is_saved: npt.NDArray[np.bool_], rules: Sequence[Rule], stage: str
) -> pa.Table:
    """Return a ledger row for each document that remains for search only, with the first rule's score and threshold."""
    parts = [_make_rows(scores.column("id")[:0], stage, "changed", SEARCH_ONLY, np.zeros(0), 0.0)]
    for index in np.unique(broken[is_saved]).tolist():
        is_here, each = pa.array(is_saved & (broken == index)), rules[index]
        ids, values = scores.column("id").filter(is_here), scores.column(each.score).filter(is_here)
        parts.append(_make_rows(ids, stage, "changed", SEARCH_ONLY, values, each.threshold))
    return pa.concat_tables(parts)


def make_ledger_rows(scores: pa.Table, broken: Rows, rules: Sequence[Rule], stage: str) -> pa.Table:
    """Return the ledger rows, sorted by id and reason.

    There is one for each dropped document, and one per reason for each survivor that was changed (its value: how many times).
    """
    ids = scores.column("id")
    parts = [_make_rows(ids[:0], stage, "dropped", "", np.zeros(0), 0.0)]
    for index in np.unique(broken[broken != PASSES]).tolist():
        is_here, each = pa.array(broken == index), rules[index]
        values = scores.column(each.score).filter(is_here)
        rows = _make_rows(ids.filter(is_here), stage, "dropped", each.reason, values, each.threshold)
        if each.other:
            others = scores.column(each.other).filter(is_here)
            rows = rows.set_column(rows.schema.get_field_index("other_id"), "other_id", others)
        parts.append(rows)
    for name in list_change_columns(scores.column_names):
        is_here = pa.array((scores.column(name).to_numpy() > 0) & (broken == PASSES))
        reason, values = name.removeprefix(CHANGED), scores.column(name).filter(is_here)
        parts.append(_make_rows(ids.filter(is_here), stage, "changed", reason, values, 0.0))
    return pa.concat_tables(parts).sort_by([("id", "ascending"), ("reason", "ascending")])


def count_decisions(scores: pa.Table, explained: pa.Table, rules: Sequence[Rule]) -> dict[str, int]:
    """Count documents in, out and dropped by each rule, documents changed for each reason, and the changes in them."""
    counts = {f"dropped_{each.reason}": 0 for each in rules}
    for name in list_change_columns(scores.column_names):
        counts |= {f"{name}_docs": 0, f"{name}_places": 0}
    groups = explained.group_by(["decision", "reason"], use_threads=False).aggregate(
        [("value", "sum"), ([], "count_all")]
    )
    for row in groups.to_pylist():
        name = f"{row['decision']}_{row['reason']}"
        if row["decision"] == "dropped":
            counts[name] = row["count_all"]
        else:
            counts |= {f"{name}_docs": row["count_all"], f"{name}_places": int(row["value_sum"])}
    n_dropped = sum(counts[f"dropped_{each.reason}"] for each in rules)
    return {"docs_in": scores.num_rows, "docs_out": scores.num_rows - n_dropped, **counts}


def list_change_columns(names: Sequence[str]) -> list[str]:
    """Return the names of the columns that count changes in texts."""
    return [name for name in names if name.startswith(CHANGED)]


def _make_rows(ids: pa.ChunkedArray, stage: str, decision: str, reason: str, values: Any, threshold: float) -> pa.Table:
    """Return one ledger row per id and value, without another document's id."""
    n = len(ids)
    constant = {"stage": stage, "decision": decision, "reason": reason, "other_id": ""}
    return pa.table(
        {
            "id": ids,
            **{name: pa.repeat(value, n) for name, value in constant.items()},
            "value": pa.chunked_array([values]) if isinstance(values, np.ndarray) else values.cast(pa.float64()),
            "threshold": pa.repeat(threshold, n),
        }
    )

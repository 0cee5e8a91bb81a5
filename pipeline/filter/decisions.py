"""Scores and thresholds to decisions: the first rule that a document breaks is the reason it goes.

In: a table of scores, one row a document. Out: the place of the broken rule (-1: none) for each, and the rows of the ledger.
Nothing but the steps reads a text, so another threshold can be tried on stored scores. Memory and time: the scores.

A step looks at a batch of documents once. It gives back the texts (others where it rewrites them, for the steps after it),
its figures, one column a score, and names the rules that these figures can break. What a step changes in a text it counts in
a column `changed_<reason>`.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.frame.errors import UserError
from pipeline.text.columns import Rows, one_array

PASSES = -1
CHANGED = "changed_"


class Rule(NamedTuple):
    """Documents stay whose `score` is at least (`min`) or at most (`max`) the threshold; `param`: its dotted name.
    `other`: the figure that says what stands against the document, if there is one."""

    reason: str
    score: str
    side: str
    threshold: float
    param: str = ""
    other: str = ""


class Scored(NamedTuple):
    """What a step found: the texts as it leaves them, and a column a figure."""

    texts: pa.StringArray
    figures: pa.RecordBatch


class FilterStep(NamedTuple):
    """The rules of one part of the filter, and how it scores: `score(texts, batch)`, the batch as the stage read it."""

    rules: Sequence[Rule]
    score: Callable[[pa.StringArray, pa.RecordBatch], Scored]


def rule(name: str, threshold: float, section: str = "") -> Rule:
    """`min_words` → the rule on the score `words`, named as it is."""
    side, _, score = name.partition("_")
    assert side in ("min", "max"), f"{name}: a threshold says which side stays"
    return Rule(name, score, side, float(threshold), f"{section}.{name}" if section else "")


def list_rules(section: str, thresholds: Mapping[str, Any]) -> list[Rule]:
    """The rules of a section of the params. A dictionary has one for each n: `max_top_ngram_char_frac: {2: …}`."""
    rules: list[Rule] = []
    for name, value in thresholds.items():
        if isinstance(value, dict):
            steps = [(rule(name.replace("ngram", f"{n}gram"), value[n]), n) for n in sorted(value)]
            rules += [step._replace(param=f"{section}.{name}.{n}") for step, n in steps]
        else:
            rules.append(rule(name, value, section))
    return rules


def run_steps(batch: pa.RecordBatch, steps: Sequence[FilterStep]) -> pa.RecordBatch:
    """`id`, all figures of all steps, and `text`: the rewritten text, null where the steps left it as it was."""
    original = texts = batch.column("text")
    columns: dict[str, pa.Array] = {"id": batch.column("id")}
    for step in steps:
        texts, figures = step.score(texts, batch)
        assert not columns.keys() & set(figures.schema.names), "two figures of one name"
        columns |= {name: figures.column(name) for name in figures.schema.names}
    is_same = pa.repeat(True, len(texts)) if texts is original else pc.equal(texts, original)
    columns["text"] = one_array(pc.if_else(is_same, pa.scalar(None, pa.string()), texts))
    return pa.record_batch(columns)


def first_broken(scores: pa.Table, rules: Sequence[Rule]) -> Rows:
    """For each document the place in `rules` of the first one that it breaks, or `PASSES`."""
    broken = np.full(scores.num_rows, PASSES, np.int64)
    for place, each in reversed(list(enumerate(rules))):
        values = scores.column(each.score).to_numpy()
        broken[values < each.threshold if each.side == "min" else values > each.threshold] = place
    return broken


def explain(scores: pa.Table, broken: Rows, rules: Sequence[Rule], stage: str) -> pa.Table:
    """The ledger's rows by id and reason: one for each document dropped, and for each that stays one for each reason that
    changed it (its value: how many places)."""
    ids = scores.column("id")
    parts = [_rows(ids[:0], stage, "dropped", "", np.zeros(0), 0.0)]
    for place in np.unique(broken[broken != PASSES]).tolist():
        is_here, each = pa.array(broken == place), rules[place]
        values = scores.column(each.score).filter(is_here)
        rows = _rows(ids.filter(is_here), stage, "dropped", each.reason, values, each.threshold)
        if each.other:
            others = scores.column(each.other).filter(is_here)
            rows = rows.set_column(rows.schema.get_field_index("other_id"), "other_id", others)
        parts.append(rows)
    for name in change_names(scores.column_names):
        is_here = pa.array((scores.column(name).to_numpy() > 0) & (broken == PASSES))
        reason, values = name.removeprefix(CHANGED), scores.column(name).filter(is_here)
        parts.append(_rows(ids.filter(is_here), stage, "changed", reason, values, 0.0))
    return pa.concat_tables(parts).sort_by([("id", "ascending"), ("reason", "ascending")])


def tally(scores: pa.Table, explained: pa.Table, rules: Sequence[Rule]) -> dict[str, int]:
    """Documents in, out, dropped by each rule; changed by each reason, and in how many places."""
    counts = {f"dropped_{each.reason}": 0 for each in rules}
    for name in change_names(scores.column_names):
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


def check_some_stay(counts: Mapping[str, float], rules: Sequence[Rule]) -> None:
    """Raises `UserError` that names the commonest reason if no document is left."""
    if counts["docs_out"] == 0:
        most = max(rules, key=lambda each: counts[f"dropped_{each.reason}"])
        raise UserError(
            "filter: no document is left",
            f"{counts[f'dropped_{most.reason}']} of {counts['docs_in']} were dropped by {most.reason}",
            f"look at {most.param} in params.yaml",
        )


def change_names(names: Sequence[str]) -> list[str]:
    """The figures that count what was changed in texts."""
    return [name for name in names if name.startswith(CHANGED)]


def _rows(ids: pa.ChunkedArray, stage: str, decision: str, reason: str, values: Any, threshold: float) -> pa.Table:
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

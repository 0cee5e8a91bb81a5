"""A rule is one pure function, one threshold and one call of `make_rule_step`; a threshold that is not set adds no step."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.filter.decisions import PASSES, find_first_broken, make_ledger_rows, run_steps
from pipeline.filter.steps import make_rule_step


def measure_shouts(texts: pa.StringArray) -> pa.RecordBatch:
    return pa.record_batch({"shouts": pc.count_substring(texts, "!"), "words": pc.count_substring(texts, " ")})


def test_a_rule_scores_drops_and_explains() -> None:
    step = make_rule_step({"min_words": 1, "max_shouts": 2}, measure_shouts, "filter.shouting")
    assert step is not None
    assert [rule.param for rule in step.rules] == ["filter.shouting.min_words", "filter.shouting.max_shouts"]
    batch = pa.record_batch({"id": ["a", "b", "c"], "text": ["Stop that! Now!", "Stop!!! Now!!!", "Stop!"]})
    scores = pa.Table.from_batches([run_steps(batch, [step])])
    assert scores.column("text").null_count == 3
    broken = find_first_broken(scores, step.rules)
    assert broken.tolist() == [PASSES, 1, 0]
    rows = make_ledger_rows(scores, broken, step.rules, "filter").to_pylist()
    assert [(row["id"], row["reason"], row["value"], row["threshold"]) for row in rows] == [
        ("b", "max_shouts", 6.0, 2.0),
        ("c", "min_words", 0.0, 1.0),
    ]


def test_a_threshold_that_is_not_set_adds_no_rule() -> None:
    assert make_rule_step({"max_shouts": None}, measure_shouts) is None
    step = make_rule_step({"min_words": None, "max_shouts": 0}, measure_shouts)
    assert step is not None
    assert [rule.param for rule in step.rules] == ["filter.max_shouts"]

"""The final thresholds: derive the one that depends on all scores, store the rules, report the metric.

In: the rules of the steps and the scored shards. Out: the rules with the threshold that `quality_classifier.keep_frac` stands
for; `rules.json`, from which `pipeline.ledger replay` tries other thresholds. Memory: 8 bytes per document.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.filter.classifiers.quality import SCORE as QUALITY_SCORE
from pipeline.filter.classifiers.quality import find_top_frac_threshold
from pipeline.filter.decisions import Rule
from pipeline.filter.params import QualityClassifier
from pipeline.frame.metrics import Metrics
from pipeline.storage.tables import read_shard


def resolve_keep_frac(rules: Sequence[Rule], params: QualityClassifier | None, scored: Sequence[Path]) -> list[Rule]:
    """Return the rules with the quality threshold that keeps `keep_frac` of all documents in the `scored` shards."""
    if params is None or params.keep_frac is None:
        return list(rules)
    columns = [batch.column(0).to_numpy() for path in scored for batch in read_shard(path, [QUALITY_SCORE])]
    threshold = find_top_frac_threshold(np.concatenate([np.zeros(0), *columns]), params.keep_frac)
    return [rule._replace(threshold=threshold) if rule.score == QUALITY_SCORE else rule for rule in rules]


def get_threshold_metrics(rules: Sequence[Rule]) -> Metrics:
    """Return the final threshold of the quality classifier, given or resolved; nothing without a classifier."""
    thresholds = [rule.threshold for rule in rules if rule.score == QUALITY_SCORE]
    return {"quality_min_score": thresholds[0]} if thresholds else {}


def write_rules(path: Path, rules: Sequence[Rule]) -> None:
    """Write the rules as JSON, so that other thresholds can be tried on the stored scores."""
    path.write_text(json.dumps([rule._asdict() for rule in rules], indent=2) + "\n", encoding="utf-8")

"""`replay`: count what other thresholds would keep or drop, from the scores that the filter has stored, without reading a text.

In: scores.parquet and rules.json of the filter, and thresholds by their dotted names in params.yaml. Out: documents dropped by
each rule with the present and the new thresholds, how many would be newly dropped and newly kept, and some of them. Memory: a batch
of scores; time: one pass over the scores that the rules name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.filter.decisions import PASSES, Rule, find_first_broken
from pipeline.frame.errors import UserError
from pipeline.storage.tables import read_shard

BATCH_ROWS = 1 << 17
CLASSIFIER, KEEP_FRAC, MIN_SCORE = "filter.quality_classifier", ".keep_frac", ".min_score"


@dataclass
class Replay:
    """Documents by the first rule that they violate, now and then; and examples, each with the rule."""

    rules: list[Rule]
    changed: dict[str, tuple[float, float]]
    n_docs: int = 0
    now: Counter[str] = field(default_factory=Counter)
    then: Counter[str] = field(default_factory=Counter)
    n_newly_dropped: int = 0
    n_newly_kept: int = 0
    newly_dropped: list[tuple[str, str]] = field(default_factory=list)
    newly_kept: list[tuple[str, str]] = field(default_factory=list)


def replay_thresholds(folder: Path, settings: Sequence[str], n_listed: int = 0) -> Replay:
    """Apply other thresholds to the stored scores of a filter's folder. Raises `UserError` for a setting that no rule has."""
    names, rules = read_rules(folder / "rules.json")
    new_rules, result = list(rules), Replay(rules, {})
    for setting in settings:
        name, index, value = parse_setting(setting, names)
        is_frac = name.endswith(KEEP_FRAC)
        threshold = _find_threshold(folder, rules[index].score, name, value) if is_frac else value
        new_rules[index] = new_rules[index]._replace(threshold=threshold)
        changed_name = name.removesuffix(KEEP_FRAC) + MIN_SCORE if is_frac else name
        result.changed[changed_name] = (rules[index].threshold, threshold)
    columns = ["id", *dict.fromkeys(rule.score for rule in rules)]
    for batch in read_shard(folder / "scores.parquet", columns, BATCH_ROWS):
        _add(result, pa.Table.from_batches([batch]), new_rules, n_listed)
    return result


def _find_threshold(folder: Path, score: str, name: str, keep_frac: float) -> float:
    """Return the score that this fraction of all documents reaches, as the filter computes it. Memory: 8 bytes per document."""
    if not 0 < keep_frac <= 1:
        raise UserError(
            f"replay: {name} must be a fraction of all documents", f"{keep_frac:g}", f"set e.g. --set {name}=0.5"
        )
    from pipeline.filter.classifiers.quality import find_top_frac_threshold  # imports kernels: half a second

    columns = [batch.column(0).to_numpy() for batch in read_shard(folder / "scores.parquet", [score], BATCH_ROWS)]
    return find_top_frac_threshold(np.concatenate([np.zeros(0), *columns]), keep_frac)


def _add(result: Replay, scores: pa.Table, new_rules: Sequence[Rule], n_listed: int) -> None:
    """Add the decisions on one batch of scores to `result`."""
    now, then = find_first_broken(scores, result.rules), find_first_broken(scores, new_rules)
    result.n_docs += scores.num_rows
    for counts, broken in ((result.now, now), (result.then, then)):
        for index, n in enumerate(np.bincount(broken + 1, minlength=len(result.rules) + 1).tolist()):
            if index > 0:
                counts[result.rules[index - 1].reason] += n
    ids = scores.column("id")
    for broken, other, listed, is_drop in (
        (then, now, result.newly_dropped, True),
        (now, then, result.newly_kept, False),
    ):
        rows = np.flatnonzero((broken != PASSES) & (other == PASSES))
        result.n_newly_dropped += len(rows) if is_drop else 0
        result.n_newly_kept += 0 if is_drop else len(rows)
        for row in rows[: n_listed - len(listed)].tolist():
            listed.append((ids[row].as_py(), result.rules[broken[row]].reason))


def read_rules(path: Path) -> tuple[list[str], list[Rule]]:
    """Return the dotted names of the rules, and the rules, in the order in which they are applied."""
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file", "no stored rules", "run dvc repro filter") from error
    rules = [Rule(*(row[name] for name in Rule._fields if name in row)) for row in rows]
    return [get_param_name(row) for row in rows], rules


def get_param_name(row: Mapping[str, Any]) -> str:
    """Return a rule's dotted name in params.yaml; for files of earlier runs without it, derive it from score and side."""
    if row.get("param"):
        return str(row["param"]) if str(row["param"]).startswith("filter.") else f"filter.{row['param']}"
    score, side = str(row["score"]), str(row["side"])
    if score == "language_score":
        return f"filter.language.{side}_score"
    if score == "license_allowed":
        return "filter.licenses"
    first, _, rest = score.partition("_")
    n, is_ngram, tail = rest.partition("gram_")
    if is_ngram and n.isdigit():
        return f"filter.gopher_repetition.{side}_{first}_ngram_{tail}.{n}"
    section = "gopher_repetition" if score.startswith("dup_") else "gopher_quality"
    return f"filter.{section}.{side}_{score}"


def parse_setting(setting: str, names: Sequence[str]) -> tuple[str, int, float]:
    """Parse `filter.gopher_quality.min_words=50` into the full name, the rule's index and the value.

    The quality classifier accepts a threshold and a fraction, whichever of the two the params have. Raises `UserError` for an
    unknown name, or a value that is not a number.
    """
    name, is_set, value = (part.strip() for part in setting.partition("="))
    known = {each: index for index, each in enumerate(names) if each.rpartition(".")[2] != "licenses"}
    for each, index in list(known.items()):
        if each in (CLASSIFIER + KEEP_FRAC, CLASSIFIER + MIN_SCORE):
            known |= {CLASSIFIER + KEEP_FRAC: index, CLASSIFIER + MIN_SCORE: index}
    full = name if name.startswith("filter.") else f"filter.{name}"
    if not is_set or full not in known:
        similar = get_close_matches(full, known, n=3) if name else []
        choice = " or ".join(similar) if similar else f"one of {', '.join(known)}"
        raise UserError(f"replay: no rule {name!r}", repr(setting), f"use NAME=VALUE with {choice}")
    try:
        return full, known[full], float(value)
    except ValueError as error:
        raise UserError(f"replay: {full} must be a number", repr(value), f"set e.g. --set {full}=0.5") from error

"""`replay`: what other thresholds would keep or drop, from the scores that the filter has stored, without reading a text.

In: scores.parquet and rules.json of the filter, and thresholds by their dotted names in params.yaml. Out: documents dropped by
each rule now and then, how many would newly go and newly stay, and some of them. Memory: a batch of scores; time: one pass over
the scores that the rules name.
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
CLASSIFIER, SHARE, SCORE = "filter.quality_classifier", ".keep_frac", ".min_score"


@dataclass
class Replay:
    """Documents by the first rule they break, before and after; examples with the rule."""

    rules: list[Rule]
    changed: dict[str, tuple[float, float]]
    n_docs: int = 0
    now: Counter[str] = field(default_factory=Counter)
    then: Counter[str] = field(default_factory=Counter)
    n_newly_dropped: int = 0
    n_newly_kept: int = 0
    newly_dropped: list[tuple[str, str]] = field(default_factory=list)
    newly_kept: list[tuple[str, str]] = field(default_factory=list)


def replay(folder: Path, settings: Sequence[str], n_listed: int = 0) -> Replay:
    """The stored scores under other thresholds. Raises `UserError` for a setting that no rule has."""
    names, rules = read_rules(folder / "rules.json")
    others, made = list(rules), Replay(rules, {})
    for setting in settings:
        name, place, value = parse(setting, names)
        threshold = _score_of_share(folder, rules[place].score, name, value) if name.endswith(SHARE) else value
        others[place] = others[place]._replace(threshold=threshold)
        told = name.removesuffix(SHARE) + SCORE if name.endswith(SHARE) else name
        made.changed[told] = (rules[place].threshold, threshold)
    columns = ["id", *dict.fromkeys(rule.score for rule in rules)]
    for batch in read_shard(folder / "scores.parquet", columns, BATCH_ROWS):
        _add(made, pa.Table.from_batches([batch]), others, n_listed)
    return made


def _score_of_share(folder: Path, score: str, name: str, keep_frac: float) -> float:
    """The threshold that this share of all documents reaches, as the filter finds it. Memory: 8 bytes a document."""
    if not 0 < keep_frac <= 1:
        raise UserError(f"replay: {name} is a share of all documents", f"{keep_frac:g}", f"give one: --set {name}=0.5")
    from pipeline.filter.classifiers.quality import (
        find_top_frac_threshold,  # brings kernels, half a second no other question needs
    )

    columns = [batch.column(0).to_numpy() for batch in read_shard(folder / "scores.parquet", [score], BATCH_ROWS)]
    return find_top_frac_threshold(np.concatenate([np.zeros(0), *columns]), keep_frac)


def _add(made: Replay, scores: pa.Table, others: Sequence[Rule], n_listed: int) -> None:
    now, then = find_first_broken(scores, made.rules), find_first_broken(scores, others)
    made.n_docs += scores.num_rows
    for counts, broken in ((made.now, now), (made.then, then)):
        for place, n in enumerate(np.bincount(broken + 1, minlength=len(made.rules) + 1).tolist()):
            if place > 0:
                counts[made.rules[place - 1].reason] += n
    ids = scores.column("id")
    for broken, other, listed, dropped in (
        (then, now, made.newly_dropped, True),
        (now, then, made.newly_kept, False),
    ):
        rows = np.flatnonzero((broken != PASSES) & (other == PASSES))
        made.n_newly_dropped += len(rows) if dropped else 0
        made.n_newly_kept += 0 if dropped else len(rows)
        for row in rows[: n_listed - len(listed)].tolist():
            listed.append((ids[row].as_py(), made.rules[broken[row]].reason))


def read_rules(path: Path) -> tuple[list[str], list[Rule]]:
    """Dotted names and rules, in the order in which they are asked."""
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file", "nothing", "run dvc repro filter") from error
    return [dotted(row) for row in rows], [Rule(*(row[name] for name in Rule._fields if name in row)) for row in rows]


def dotted(row: Mapping[str, Any]) -> str:
    """A rule's name in params.yaml; files of earlier runs don't say it, but it can be told from score and side."""
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


def parse(setting: str, names: Sequence[str]) -> tuple[str, int, float]:
    """`filter.gopher_quality.min_words=50` → the whole name, the rule's place and the value. A score can be asked for by
    threshold or by share, whichever of the two the params have."""
    name, is_set, value = (part.strip() for part in setting.partition("="))
    known = {each: place for place, each in enumerate(names) if each.rpartition(".")[2] != "licenses"}
    for each, place in list(known.items()):
        if each in (CLASSIFIER + SHARE, CLASSIFIER + SCORE):
            known |= {CLASSIFIER + SHARE: place, CLASSIFIER + SCORE: place}
    full = name if name.startswith("filter.") else f"filter.{name}"
    if not is_set or full not in known:
        meant = get_close_matches(full, known, n=3) if name else []
        todo = (
            f"use NAME=VALUE with {' or '.join(meant)}" if meant else f"use NAME=VALUE with one of {', '.join(known)}"
        )
        raise UserError(f"replay: no rule {name!r}", repr(setting), todo)
    try:
        return full, known[full], float(value)
    except ValueError as error:
        raise UserError(f"replay: {name} is a number", repr(value), f"give one: --set {name}=0.5") from error

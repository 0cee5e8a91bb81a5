"""Measure how much runs differ that differ in their seed only: the noise of the gate's policy (registry.noise).

In: finished runs of the same settings, each a folder with data/metrics/evaluate.json (the root of a repository, its data folder,
or the file itself). Out: mean, standard deviation and range of every metric that the gate compares, and the lines for params.yaml.
All runs must have been measured on the same items, so that the spread is that of training alone: where items.parquet is there,
that is checked.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import numpy as np

from pipeline.frame.errors import UserError
from pipeline.registry.paired.differences import ItemScores
from pipeline.registry.paired.item_table import read_scores

MIN_RUNS = 3  # two runs have one difference
FILES = ("data/metrics/evaluate.json", "metrics/evaluate.json", "evaluate.json")
EXAMPLE = (
    "for N in 1 2 3 4 5, in a copy of the repository: set pretrain.training.seed and sft.training.seed, `dvc repro`"
)


class Spread(NamedTuple):
    """One metric over runs; `se` is the mean standard error over items of a single run, NaN if it has none."""

    metric: str
    mean: float
    sd: float
    low: float
    high: float
    se: float


class SeedRun(NamedTuple):
    """What was measured for one run, and the file that tells."""

    path: Path
    metrics: Mapping[str, float]
    items: Mapping[str, ItemScores]


def read_run(folder: Path) -> SeedRun:
    """Read one run. Raises `UserError` if it has no metrics of evaluate."""
    candidates = [folder] if folder.is_file() else [folder / name for name in FILES]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        looked = ", ".join(FILES)
        raise UserError(
            f"noise: {folder}: no metrics of evaluate", f"none of {looked}", "name folders of finished runs"
        )
    try:
        metrics = {str(name): float(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"noise: {path}: not metrics of evaluate", str(error), "name folders of finished runs"
        ) from error
    return SeedRun(path, metrics, read_scores(path.parent.parent / "evaluate"))


def measure_spread(runs: Sequence[SeedRun], names: Iterable[str]) -> list[Spread]:
    """Return the spread of each metric that all runs have: those in `names`, and those that all were scored on item by item.

    Raises `UserError` for fewer than three runs, the same run twice, or runs that were measured on different items.
    """
    check_runs(runs)
    scored = set[str].intersection(*(set(run.items) for run in runs))
    shared = [name for name in dict.fromkeys([*names, *sorted(scored)]) if all(name in run.metrics for run in runs)]
    spreads: list[Spread] = []
    for name in shared:
        values = [run.metrics[name] for run in runs]
        errors = [run.metrics.get(f"{name}_se", math.nan) for run in runs]
        spreads.append(Spread(name, mean(values), stdev(values), min(values), max(values), mean(errors)))
    return spreads


def check_runs(runs: Sequence[SeedRun]) -> None:
    """Raise `UserError` if these are not at least three different runs that were measured on the same items."""
    if len(runs) < MIN_RUNS:
        raise UserError("noise: too few runs", f"{len(runs)} (at least {MIN_RUNS} are needed)", f"make more: {EXAMPLE}")
    first = runs[0]
    for index, run in enumerate(runs):
        same = next((other for other in runs[:index] if other.metrics == run.metrics), None)
        if same is not None:
            raise UserError(
                f"noise: {run.path}: the same run twice",
                f"the metrics of {same.path}",
                f"other seeds are needed: {EXAMPLE}",
            )
        for name in set(first.items) & set(run.items):
            if not np.array_equal(np.sort(first.items[name].ids), np.sort(run.items[name].ids)):
                raise UserError(
                    f"noise: {run.path}: measured on other items than {first.path}",
                    f"{name}: {len(run.items[name].ids)} and {len(first.items[name].ids)} items",
                    "change the seeds of training only: pretrain.training.seed and sft.training.seed",
                )


def format_noise(spreads: Sequence[Spread], n_runs: int) -> str:
    """Return the lines for params.yaml."""
    lines = [f"      {spread.metric}: {spread.sd:.3g}" for spread in spreads]
    return "\n".join(["  noise:", f"    n_seeds: {n_runs}", "    sd:", *lines])

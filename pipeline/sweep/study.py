"""Propose trials, prune them and store their results in an Optuna study. The only file that imports optuna.

In: a search space. Out: var/sweep/NAME.db (Optuna's SQLite storage). A study is reproducible: the sampler of each trial is seeded
with the trial's number, so a killed study proposes the same values after a restart. Optuna's heartbeat would fail interrupted
trials after a grace period and requeue them under new numbers; a lock on the study shows immediately that they are dead.
TPE: Bergstra et al. 2011; pruning: the median rule of Golovin et al. 2017 (Vizier), section 3.2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import TrialState

from pipeline.frame.errors import UserError
from pipeline.sweep.space import Choice, Range, Sweep, Values, count_trials, round_values

STARTUP_TRIALS = 6  # drawn at random before TPE has data
PRUNED_FROM = 4  # completed trials before pruning starts
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


class TrialRow(NamedTuple):
    """One trial: a row of the table."""

    number: int
    state: str
    bpb: float | None
    values: dict[str, Choice]
    about: dict[str, Any]  # the reason of a failure, or the speed


class Study:
    """A study in a database that is closed at the end: `with Study(...) as study`."""

    def __init__(self, path: Path, sweep: Sweep, fingerprint: str, start: Sequence[Values]) -> None:
        """Open or create the study; `start` has the values of the first trials. Raises: `UserError` for a database of other
        settings."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.sweep, self._trials = sweep, dict[int, optuna.Trial]()
        pruner = optuna.pruners.MedianPruner(n_startup_trials=PRUNED_FROM, n_warmup_steps=1)
        self._storage = optuna.storages.RDBStorage(f"sqlite:///{path.resolve()}?timeout=60")
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="sweep",
            load_if_exists=True,
            pruner=pruner if sweep.use_pruning else optuna.pruners.NopPruner(),
        )
        stored = self._study.user_attrs.get("fingerprint")
        if stored is None:
            for values in start:
                self._study.enqueue_trial(dict(values))
            self._study.set_user_attr("fingerprint", fingerprint)
        elif stored != fingerprint:
            self.__exit__()
            raise UserError(
                f"sweep: {path} contains trials of another space, other params or other shards",
                f"fingerprint {stored[:12]} instead of {fingerprint[:12]}",
                "give another --name, or delete the file",
            )

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def propose(self, n_trials: int) -> list[tuple[int, dict[str, Choice]]]:
        """Return number and values of the next trials: the unfinished ones of a killed sweep if there are any, else new ones."""
        trials = self._study.get_trials(deepcopy=False)
        unfinished = [trial for trial in trials if trial.state is TrialState.RUNNING]
        if unfinished:
            return [self._suggest(each.number, each._trial_id) for each in unfinished]  # pyright: ignore[reportPrivateUsage]
        n_begun = sum(trial.state is not TrialState.WAITING for trial in trials)
        n_wanted = min(n_trials, count_trials(self.sweep) - n_begun)
        return [self._suggest(number, None) for number in range(n_begun, n_begun + n_wanted)]

    def _suggest(self, number: int, trial_id: int | None) -> tuple[int, dict[str, Choice]]:
        """Return the values of a new or unfinished trial; missing values of an unfinished one are drawn."""
        seed = int(np.random.SeedSequence([self.sweep.seed, number]).generate_state(1)[0])
        if self.sweep.sampler == "tpe":
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
        else:
            sampler = optuna.samplers.RandomSampler(seed=seed)
        self._study.sampler = sampler
        trial = self._study.ask() if trial_id is None else optuna.Trial(self._study, trial_id)
        for name, of in self.sweep.space.items():
            if not isinstance(of, Range):
                trial.suggest_categorical(name, of)
            elif of.is_whole:
                trial.suggest_int(name, int(of.low), int(of.high), log=of.log)
            else:
                trial.suggest_float(name, of.low, of.high, log=of.log)
        self._trials[trial.number] = trial
        return trial.number, round_values(trial.params)

    def find_step_behind(self, number: int, curve: Sequence[tuple[int, float]]) -> int | None:
        """Store the points of the curve. Return the first step at which the median of the finished trials was better, if any."""
        trial, stored = self._trials[number], self._study.get_trials(deepcopy=False)[number].intermediate_values
        last = max(stored, default=-1)
        for step, bpb in curve:
            if step not in stored:
                trial.report(bpb, step)
            if step >= last and trial.should_prune():
                return step
        return None

    def complete(self, number: int, bpb: float, about: dict[str, Any]) -> None:
        """Store the result of a completed trial."""
        self._tell(number, TrialState.COMPLETE, about, bpb)

    def prune(self, number: int, about: dict[str, Any]) -> None:
        """Mark a trial as pruned."""
        self._tell(number, TrialState.PRUNED, about)

    def fail(self, number: int, about: dict[str, Any]) -> None:
        """Mark a trial as failed."""
        self._tell(number, TrialState.FAIL, about)

    def _tell(self, number: int, state: TrialState, about: dict[str, Any], bpb: float | None = None) -> None:
        for name, value in about.items():
            self._trials[number].set_user_attr(name, value)
        self._study.tell(number, bpb, state=state)

    def list_rows(self) -> list[TrialRow]:
        """Return the trials: completed ones, best first, then pruned, failed and running ones."""
        trials = [trial for trial in self._study.get_trials(deepcopy=False) if trial.state in STATES]
        rows: list[TrialRow] = []
        for trial in trials:
            points = trial.intermediate_values
            bpb = trial.value if trial.state is TrialState.COMPLETE else points[max(points)] if points else None
            rows.append(
                TrialRow(trial.number, STATES[trial.state], bpb, round_values(trial.params), dict(trial.user_attrs))
            )
        order = list(STATES.values())
        return sorted(rows, key=lambda row: (order.index(row.state), row.bpb or 0.0, row.number))


def compute_fingerprint(*parts: object) -> str:
    """Return a hash of everything that must be equal for trials to be comparable."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

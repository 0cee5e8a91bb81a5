"""The Optuna study: the values of the next trials, which ones end early, and their results. The only file that imports optuna.

In: a search space. Out: var/sweep/NAME.db (Optuna's SQLite storage). A study repeats: the sampler of each trial is seeded with the
number of trials before it, so that a study that was killed proposes what it would have proposed. Optuna's heartbeat would fail such
trials after a grace period and queue them again under new numbers; a lock on the study shows at once that they are dead.
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

STARTUP_TRIALS = 6  # drawn at random before TPE has data; none of the first of them ends early
PRUNED_FROM = 4
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


class TrialRow(NamedTuple):
    """A trial as the table shows it."""

    number: int
    state: str
    bpb: float | None
    values: dict[str, Choice]
    about: dict[str, Any]  # why it failed, or its speed


class Study:
    """`with Study(...) as study`; closes the database at the end."""

    def __init__(self, path: Path, sweep: Sweep, fingerprint: str, start: Sequence[Values]) -> None:
        """`start`: values to try first. Raises: `UserError` for a database made with other settings."""
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
        made_with = self._study.user_attrs.get("fingerprint")
        if made_with is None:
            for values in start:
                self._study.enqueue_trial(dict(values))
            self._study.set_user_attr("fingerprint", fingerprint)
        elif made_with != fingerprint:
            self.__exit__()
            raise UserError(
                f"sweep: {path} holds trials of another space, other params or other shards",
                f"{made_with[:12]}, and now {fingerprint[:12]}",
                "give another --name, or delete the file",
            )

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def propose(self, n_trials: int) -> list[tuple[int, dict[str, Choice]]]:
        """Return number and values of the next trials: those that a killed sweep left unfinished, or else new ones."""
        trials = self._study.get_trials(deepcopy=False)
        left = [trial for trial in trials if trial.state is TrialState.RUNNING]
        if left:
            return [self._suggest(each.number, each._trial_id) for each in left]  # pyright: ignore[reportPrivateUsage]
        n_begun = sum(trial.state is not TrialState.WAITING for trial in trials)
        n_wanted = min(n_trials, count_trials(self.sweep) - n_begun)
        return [self._suggest(number, None) for number in range(n_begun, n_begun + n_wanted)]

    def _suggest(self, number: int, trial_id: int | None) -> tuple[int, dict[str, Choice]]:
        """Return the values of a new or unfinished trial; one that was killed between two values gets the rest."""
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
        """Return the first step at which the median of the finished trials was better, if any; store the points."""
        trial, known = self._trials[number], self._study.get_trials(deepcopy=False)[number].intermediate_values
        last = max(known, default=-1)
        for step, bpb in curve:
            if step not in known:
                trial.report(bpb, step)
            if step >= last and trial.should_prune():
                return step
        return None

    def complete(self, number: int, bpb: float, about: dict[str, Any]) -> None:
        self._tell(number, TrialState.COMPLETE, about, bpb)

    def prune(self, number: int, about: dict[str, Any]) -> None:
        self._tell(number, TrialState.PRUNED, about)

    def fail(self, number: int, about: dict[str, Any]) -> None:
        self._tell(number, TrialState.FAIL, about)

    def _tell(self, number: int, state: TrialState, about: dict[str, Any], bpb: float | None = None) -> None:
        for name, value in about.items():
            self._trials[number].set_user_attr(name, value)
        self._study.tell(number, bpb, state=state)

    def list_rows(self) -> list[TrialRow]:
        """Return the trials, the best first, then those that ended early, then those that failed."""
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
    """Return a hash of everything that makes trials comparable."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()

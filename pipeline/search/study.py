"""The trials that Optuna proposes and remembers: the only file that imports optuna.

In: a search space. Out: var/search/NAME.db (SQLite), in which each trial's values stand before it starts and its result once it has
ended. A study repeats: the sampler of each trial is seeded with the number of trials before it, not with its own past, so that one
that was killed and goes on proposes what it would have proposed. TPE: Bergstra et al. 2011; early ends: the median rule of Golovin
et al. 2017 (Vizier), section 3.2.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState

from pipeline.errors import UserError
from pipeline.search.space import Choice, Range, Search, Values, count_trials, rounded

STARTUP_TRIALS = 6  # drawn at random before TPE has something to go by; none ends early among the first of them
PRUNED_FROM = 4


class Row(NamedTuple):
    """A trial as the table shows it."""

    number: int
    state: str  # complete, pruned, failed, running
    bpb: float | None
    values: dict[str, Choice]
    about: dict[str, Any]  # why it failed, or its speed


class Study:
    """`with Study(...) as study`; the file is let go at the end."""

    def __init__(self, path: Path, search: Search, fingerprint: str, start: Sequence[Values]) -> None:
        """`start`: values to try first. Raises: `UserError` for a file made with other settings."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.search, self.path = search, path
        self._distributions = {name: _distribution(of) for name, of in search.space.items()}
        self._storage = optuna.storages.RDBStorage(
            f"sqlite:///{path.resolve()}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
        self._study = optuna.create_study(
            storage=self._storage,
            study_name="search",
            direction="minimize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=PRUNED_FROM, n_warmup_steps=1),
        )
        made_with = self._study.user_attrs.get("fingerprint")
        if made_with is None:
            for values in start:
                self._study.enqueue_trial(dict(values))
            self._study.set_user_attr("fingerprint", fingerprint)
        elif made_with != fingerprint:
            self.close()
            raise UserError(
                f"search: {path} holds trials of another space, other params or other shards",
                f"{made_with[:12]}, and now {fingerprint[:12]}",
                "give another --name, or delete the file",
            )

    def __enter__(self) -> Study:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def propose(self, n_trials: int) -> list[tuple[int, dict[str, Choice]]]:
        """Number and values of the next trials: those that a killed search left unfinished, or else new ones."""
        trials = self._study.get_trials(deepcopy=False)
        left = [trial for trial in trials if trial.state is TrialState.RUNNING]
        if left:
            return [(each.number, rounded(self._complete(each._trial_id, each.number))) for each in left]  # pyright: ignore[reportPrivateUsage]
        n_begun = sum(trial.state is not TrialState.WAITING for trial in trials)
        proposed: list[tuple[int, dict[str, Choice]]] = []
        for place in range(n_begun, min(n_begun + n_trials, count_trials(self.search))):
            self._study.sampler = self._sampler(place)
            trial = self._study.ask(self._distributions)
            proposed.append((trial.number, rounded(trial.params)))
        return proposed

    def _complete(self, trial_id: int, number: int) -> dict[str, Choice]:
        """The values of a trial, also if it was killed between two of them."""
        self._study.sampler = self._sampler(number)
        trial = optuna.trial.Trial(self._study, trial_id)
        for name, of in self.search.space.items():
            if isinstance(of, Range):
                suggest = trial.suggest_int if of.is_whole else trial.suggest_float
                suggest(name, of.low, of.high, log=of.log)  # type: ignore[arg-type]
            else:
                trial.suggest_categorical(name, of)
        return trial.params

    def _sampler(self, place: int) -> optuna.samplers.BaseSampler:
        seed = int(np.random.SeedSequence([self.search.seed, place]).generate_state(1)[0])
        if self.search.sampler == "tpe":
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=True)
        return optuna.samplers.RandomSampler(seed=seed)

    def falls_behind(self, number: int, curve: Sequence[tuple[int, float]]) -> int | None:
        """The first step at which the median of the finished trials was better; the points are remembered."""
        frozen = self._study.get_trials(deepcopy=False)[number]
        trial = optuna.trial.Trial(self._study, frozen._trial_id)  # pyright: ignore[reportPrivateUsage]
        known = dict(frozen.intermediate_values)
        for step, bpb in curve:
            if step not in known:
                trial.report(bpb, step)
            if (step not in known or step == max(known)) and self.search.use_pruning and trial.should_prune():
                return step
        return None

    def complete(self, number: int, bpb: float, about: dict[str, Any]) -> None:
        self._note(number, about)
        self._study.tell(number, bpb)

    def prune(self, number: int, about: dict[str, Any]) -> None:
        self._note(number, about)
        self._study.tell(number, state=TrialState.PRUNED)

    def fail(self, number: int, about: dict[str, Any]) -> None:
        self._note(number, about)
        self._study.tell(number, state=TrialState.FAIL)

    def _note(self, number: int, about: dict[str, Any]) -> None:
        trial_id = self._study.get_trials(deepcopy=False)[number]._trial_id  # pyright: ignore[reportPrivateUsage]
        for name, value in about.items():
            self._storage.set_trial_user_attr(trial_id, name, value)

    def rows(self) -> list[Row]:
        """The best first, then those that ended early, then those that failed."""
        names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
        rows = [
            Row(
                trial.number,
                names.get(trial.state, "running"),
                trial.value if trial.state is TrialState.COMPLETE else _last(trial.intermediate_values),
                rounded(trial.params),
                dict(trial.user_attrs),
            )
            for trial in self._study.get_trials(deepcopy=False)
            if trial.state is not TrialState.WAITING
        ]
        order = ["complete", "pruned", "failed", "running"]
        return sorted(rows, key=lambda row: (order.index(row.state), row.bpb or 0.0, row.number))


def fingerprint_of(*parts: object) -> str:
    """Of everything that makes trials comparable."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _last(points: dict[int, float]) -> float | None:
    return points[max(points)] if points else None


def _distribution(of: Range | list[Choice]) -> BaseDistribution:
    if not isinstance(of, Range):
        return CategoricalDistribution(of)
    if of.is_whole:
        return IntDistribution(int(of.low), int(of.high), log=of.log)
    return FloatDistribution(float(of.low), float(of.high), log=of.log)

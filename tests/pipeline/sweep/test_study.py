"""Proposals depend on the stored results, not on whether the sweep was killed in between."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.frame.errors import UserError
from pipeline.sweep.space import Sweep
from pipeline.sweep.study import Study

NAMES = ("pretrain.training.matrix_lr", "pretrain.training.embedding_lr")


def make_sweep(**changed: Any) -> Sweep:
    of = {"low": 0.001, "high": 0.1, "log": True}
    return Sweep.model_validate({"space": dict.fromkeys(NAMES, of) | {"pretrain.model.n_layer": [2, 4]}} | changed)


def compute_loss(values: Any) -> float:
    """Return a loss with its minimum at 0.01 and 0.03."""
    return sum(abs(math.log10(values[name] / best)) for name, best in zip(NAMES, (0.01, 0.03), strict=True))


def run_study(path: Path, search: Sweep, jobs: int, rounds_per_opening: int) -> list[tuple[int, Any]]:
    """Run all trials, reopening the study every `rounds_per_opening` rounds. Return all proposals."""
    proposed: list[tuple[int, Any]] = []
    is_done = False
    while not is_done:
        with Study(path, search, "same", []) as study:
            for _ in range(rounds_per_opening):
                batch = study.propose(jobs)
                is_done = not batch
                proposed += batch
                for number, values in reversed(batch):
                    study.complete(number, compute_loss(values), {})
    return proposed


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_reopened_study_makes_the_same_proposals(sampler: str, tmp_path: Path) -> None:
    search = make_sweep(sampler=sampler, trials=10)
    whole = run_study(tmp_path / "a.db", search, 2, 100)
    assert [number for number, _ in whole] == list(range(10))
    assert run_study(tmp_path / "b.db", search, 2, 1) == whole
    assert run_study(tmp_path / "c.db", search.model_copy(update={"seed": 2}), 2, 100) != whole
    assert len({str(values) for _, values in whole}) == 10


def test_unfinished_trials_are_proposed_first(tmp_path: Path) -> None:
    search = make_sweep(trials=6)
    with Study(tmp_path / "s.db", search, "same", []) as study:
        before = study.propose(3)
        study.complete(before[1][0], 1.0, {})
    with Study(tmp_path / "s.db", search, "same", []) as study:
        assert study.propose(3) == [before[0], before[2]]
        for number in (0, 2):
            study.fail(number, {"why": "no reason"})
        assert [number for number, _ in study.propose(9)] == [3, 4, 5]


@pytest.mark.slow
def test_tpe_improves_on_its_first_trials(tmp_path: Path) -> None:
    proposed = run_study(tmp_path / "s.db", make_sweep(trials=30), 1, 100)
    losses = [compute_loss(values) for _, values in proposed]
    assert min(losses[15:]) < min(losses[:6])


def test_first_trial_is_the_given_one_and_a_grid_is_complete(tmp_path: Path) -> None:
    first = {NAMES[0]: 0.005, NAMES[1]: 0.05, "pretrain.model.n_layer": 4}
    with Study(tmp_path / "s.db", make_sweep(), "same", [first]) as study:
        assert study.propose(1) == [(0, first)]
    search = Sweep.model_validate(
        {"space": {"pretrain.model.n_layer": [2, 4], "pretrain.model.is_tied": [True, False]}, "sampler": "grid"}
    )
    wanted = [{"pretrain.model.n_layer": n, "pretrain.model.is_tied": flag} for n in (2, 4) for flag in (True, False)]
    with Study(tmp_path / "g.db", search, "same", wanted) as study:
        assert [values for _, values in study.propose(9)] == wanted
        for number in range(4):
            study.complete(number, float(number), {})
        assert study.propose(9) == []


def test_trial_behind_the_median_is_pruned(tmp_path: Path) -> None:
    with Study(tmp_path / "s.db", make_sweep(trials=9), "same", []) as study:
        first = [number for number, _ in study.propose(5)]
        for number in first:
            assert study.find_step_behind(number, [(10, 3.0 + number), (20, 2.0 + number)]) is None
        for number in first:
            study.complete(number, 1.0 + number, {})
        number, _ = study.propose(1)[0]
        assert study.find_step_behind(number, [(10, 4.9)]) is None
        assert study.find_step_behind(number, [(10, 4.9), (20, 4.5), (30, 1.0)]) == 20
        assert study.find_step_behind(number, [(10, 4.9), (20, 4.5)]) == 20  # the same answer when called again
        study.prune(number, {"why": "slow"})
        states = [row.state for row in study.list_rows()]
        assert states == ["complete"] * 5 + ["pruned"]
        assert study.list_rows()[-1].bpb == 4.5


def test_trials_of_other_settings_are_rejected(tmp_path: Path) -> None:
    with Study(tmp_path / "s.db", make_sweep(), "one", []):
        pass
    with pytest.raises(UserError, match="another space"):
        Study(tmp_path / "s.db", make_sweep(), "two", [])

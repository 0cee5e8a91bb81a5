"""What is proposed depends on what was told, not on whether a search was killed in between."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from pipeline.frame.errors import UserError
from pipeline.sweep.space import Sweep
from pipeline.sweep.study import Study

NAMES = ("pretrain.training.matrix_lr", "pretrain.training.embedding_lr")


def make(**changed: Any) -> Sweep:
    of = {"low": 0.001, "high": 0.1, "log": True}
    return Sweep.model_validate({"space": dict.fromkeys(NAMES, of) | {"pretrain.model.n_layer": [2, 4]}} | changed)


def loss(values: Any) -> float:
    """Best at 0.01 and 0.03."""
    return sum(abs(math.log10(values[name] / best)) for name, best in zip(NAMES, (0.01, 0.03), strict=True))


def play(path: Path, search: Sweep, jobs: int, sittings: int) -> list[tuple[int, Any]]:
    """Proposes and tells, opening the study anew every so many rounds; returns what was proposed."""
    proposed: list[tuple[int, Any]] = []
    is_done = False
    while not is_done:
        with Study(path, search, "same", []) as study:
            for _ in range(sittings):
                batch = study.propose(jobs)
                is_done = not batch
                proposed += batch
                for number, values in reversed(batch):
                    study.complete(number, loss(values), {})
    return proposed


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_that_is_opened_again_proposes_the_same(sampler: str, tmp_path: Path) -> None:
    search = make(sampler=sampler, trials=10)
    whole = play(tmp_path / "a.db", search, 2, 100)
    assert [number for number, _ in whole] == list(range(10))
    assert play(tmp_path / "b.db", search, 2, 1) == whole
    assert play(tmp_path / "c.db", search.model_copy(update={"seed": 2}), 2, 100) != whole
    assert len({str(values) for _, values in whole}) == 10


def test_what_a_killed_search_left_is_proposed_first(tmp_path: Path) -> None:
    search = make(trials=6)
    with Study(tmp_path / "s.db", search, "same", []) as study:
        before = study.propose(3)
        study.complete(before[1][0], 1.0, {})
    with Study(tmp_path / "s.db", search, "same", []) as study:
        assert study.propose(3) == [before[0], before[2]]
        for number in (0, 2):
            study.fail(number, {"why": "no reason"})
        assert [number for number, _ in study.propose(9)] == [3, 4, 5]


def test_tpe_finds_better_values_than_it_began_with(tmp_path: Path) -> None:
    proposed = play(tmp_path / "s.db", make(trials=30), 1, 100)
    losses = [loss(values) for _, values in proposed]
    assert min(losses[15:]) < min(losses[:6])


def test_the_first_trial_is_what_it_is_told_to_be_and_a_grid_is_complete(tmp_path: Path) -> None:
    first = {NAMES[0]: 0.005, NAMES[1]: 0.05, "pretrain.model.n_layer": 4}
    with Study(tmp_path / "s.db", make(), "same", [first]) as study:
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


def test_a_trial_that_falls_behind_the_median_ends_early(tmp_path: Path) -> None:
    with Study(tmp_path / "s.db", make(trials=9), "same", []) as study:
        first = [number for number, _ in study.propose(5)]
        for number in first:
            assert study.find_step_behind(number, [(10, 3.0 + number), (20, 2.0 + number)]) is None
        for number in first:
            study.complete(number, 1.0 + number, {})
        number, _ = study.propose(1)[0]
        assert study.find_step_behind(number, [(10, 4.9)]) is None
        assert study.find_step_behind(number, [(10, 4.9), (20, 4.5), (30, 1.0)]) == 20
        assert study.find_step_behind(number, [(10, 4.9), (20, 4.5)]) == 20  # also when it is asked again
        study.prune(number, {"why": "slow"})
        states = [row.state for row in study.list_rows()]
        assert states == ["complete"] * 5 + ["pruned"]
        assert study.list_rows()[-1].bpb == 4.5


def test_trials_of_something_else_are_not_mixed(tmp_path: Path) -> None:
    with Study(tmp_path / "s.db", make(), "one", []):
        pass
    with pytest.raises(UserError, match="another space"):
        Study(tmp_path / "s.db", make(), "two", [])

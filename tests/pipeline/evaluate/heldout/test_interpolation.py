"""The mixture's weight is the best one of the other half."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluate.heldout.interpolation import find_best_weight, mix

Nats = st.lists(st.floats(0.01, 20.0), min_size=1, max_size=20)


@given(Nats, st.integers(0, 1_000))
def test_weight_is_the_best_of_a_grid(nats: list[float], seed: int) -> None:
    first, second = np.array(nats), np.random.default_rng(seed).permutation(nats) + 0.1
    weight = find_best_weight(np.exp(second - first))

    def measure(w: float) -> float:
        return -np.log(w * np.exp(-first) + (1 - w) * np.exp(-second)).sum()

    assert measure(weight) <= min(measure(w) for w in np.linspace(0, 1, 21)) + 1e-6


def test_weights_are_crossed() -> None:
    """In even documents the first model is sure and right, in odd ones the second: each half gets the other's weight."""
    sure, lost = np.full(50, 0.1), np.full(50, 5.0)
    mixed = mix([sure, lost, sure, lost], [lost, sure, lost, sure])
    assert mixed.weight == pytest.approx(0.5)
    assert all(nats == pytest.approx(lost, abs=1e-3) for nats in mixed.nats)


def test_equal_models_stay_as_they_are() -> None:
    nats = [np.array([1.0, 2.0]), np.array([3.0])]
    assert [part.tolist() for part in mix(nats, nats).nats] == [[1.0, 2.0], [3.0]]


def test_extreme_nats_stay_finite() -> None:
    mixed = mix([np.array([2_000.0]), np.array([0.0])], [np.array([0.0]), np.array([2_000.0])])
    assert all(np.isfinite(part).all() for part in mixed.nats)


def test_documents_without_tokens() -> None:
    empty = [np.empty(0), np.empty(0)]
    assert mix(empty, empty).weight == pytest.approx(0.5)

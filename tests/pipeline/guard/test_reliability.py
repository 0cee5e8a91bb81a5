"""Calibration: Platt's sigmoid against the optimum of its likelihood, and the table against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from pipeline.guard.reliability import (
    calibrate_by_folds,
    draw_reliability,
    fit_sigmoid,
    make_reliability_table,
    measure_calibration,
)


@pytest.mark.parametrize(("slope", "offset"), [(0.5, -1.0), (2.0, -6.0), (1.0, 0.0)])
def test_the_sigmoid_is_the_optimum(slope: float, offset: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(0, 3, 4000)
    y = rng.random(4000) < 1 / (1 + np.exp(-(slope * x + offset)))
    fitted = fit_sigmoid(x, y)
    n = y.sum()
    targets = np.where(y, (n + 1) / (n + 2), 1 / (len(y) - n + 2))
    loss = lambda v: float((np.logaddexp(0, v[0] * x + v[1]) - targets * (v[0] * x + v[1])).sum())  # noqa: E731
    assert np.allclose(fitted, minimize(loss, [1.0, 0.0]).x, atol=1e-3)
    assert abs(fitted.slope - slope) < 0.25 * slope


def test_rare_and_separable_positives_give_finite_probabilities() -> None:
    x = np.concatenate([np.full(3000, -8.0), np.full(3, 9.0)])
    fitted = fit_sigmoid(x, x > 0)
    p = fitted.apply(x)
    assert np.isfinite(fitted).all()
    assert p[0] < 0.01 < 0.5 < p[-1] < 1
    assert fit_sigmoid(x, x > 100) == (1.0, 0.0)


def test_calibrated_scores_mean_what_they_say() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random(20_000)
    y = rng.random(20_000) < truth
    logits = 3 * np.log(truth / (1 - truth)) + 1  # overconfident
    raw = make_reliability_table(1 / (1 + np.exp(-logits)), y)
    table = make_reliability_table(calibrate_by_folds(logits, y, np.arange(20_000) % 5), y)
    assert sum(row["n"] for row in table) == 20_000
    assert measure_calibration(table) < 0.02 < measure_calibration(raw)
    assert draw_reliability(table, 0.01).count("<circle") == 10

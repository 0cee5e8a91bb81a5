"""Calibrate scores, and measure how far they can be taken at their word.

In: raw outputs of texts by models that had not seen their themes, and labels. Out: slope and offset of Platt's sigmoid per output
(Platt 1999, with his smoothed targets, by Newton's method), the table of reliability (how often texts of a score were harmful),
expected calibration error, Brier score, and the picture of both. Pure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

N_BINS = 10
N_STEPS = 50  # of Newton's method; it converges in about eight
MIN_SLOPE = 0.05  # an output that says nothing must not be turned round
Doubles = NDArray[np.float64]


class Sigmoid(NamedTuple):
    """p = 1 / (1 + exp(-(slope × output + offset)))."""

    slope: float
    offset: float

    def apply(self, logits: NDArray[Any]) -> Doubles:
        """Return the probabilities."""
        return 1 / (1 + np.exp(-np.clip(self.slope * logits.astype(np.float64) + self.offset, -30, 30)))


def fit_sigmoid(logits: NDArray[Any], is_positive: NDArray[np.bool_]) -> Sigmoid:
    """Return the sigmoid of the greatest likelihood; the identity where one of the classes has no text."""
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    if n_positive == 0 or n_negative == 0:
        return Sigmoid(1.0, 0.0)
    targets = np.where(is_positive, (n_positive + 1) / (n_positive + 2), 1 / (n_negative + 2))
    x = logits.astype(np.float64)
    place: Doubles = np.array([1.0, 0.0])
    loss = _sum_loss(place, x, targets)
    for _ in range(N_STEPS):
        p = 1 / (1 + np.exp(-np.clip(place[0] * x + place[1], -30, 30)))
        w = np.maximum(p * (1 - p), 1e-12)
        errors = p - targets
        gradient = np.array([errors @ x, errors.sum()])
        hessian = np.array([[w @ (x * x), w @ x], [w @ x, w.sum()]]) + 1e-9 * np.eye(2)
        step: Doubles = np.linalg.solve(hessian, gradient).astype(np.float64)
        while (smaller := _sum_loss(place - step, x, targets)) > loss and np.abs(step).max() > 1e-9:
            step = step / 2  # far from the optimum a whole step may overshoot
        place, loss = (place - step).astype(np.float64), smaller
        if np.abs(step).max() < 1e-9:
            break
    slope, offset = place
    return Sigmoid(float(max(slope, MIN_SLOPE)), float(offset))


def _sum_loss(place: Doubles, x: Doubles, targets: Doubles) -> float:
    """Return the negative log-likelihood of targets."""
    z = np.clip(place[0] * x + place[1], -700, 700)
    return float((np.logaddexp(0, z) - targets * z).sum())


def calibrate_by_folds(logits: NDArray[Any], is_positive: NDArray[np.bool_], folds: NDArray[np.int64]) -> Doubles:
    """Return probabilities: each fold's by the sigmoid of the others."""
    out = np.zeros(len(logits))
    for fold in np.unique(folds):
        own = folds == fold
        sigmoid = fit_sigmoid(logits[~own], is_positive[~own])
        out[own] = sigmoid.apply(logits[own])
    return out


def make_reliability_table(probabilities: Doubles, is_positive: NDArray[np.bool_]) -> list[dict[str, float]]:
    """Return for each tenth of the scale: number of texts, their mean score, the fraction that was harmful."""
    bins = np.minimum((probabilities * N_BINS).astype(int), N_BINS - 1)
    rows: list[dict[str, float]] = []
    for number in range(N_BINS):
        own = bins == number
        n = int(own.sum())
        mean = round(float(probabilities[own].mean()), 4) if n else (number + 0.5) / N_BINS
        observed = round(float(is_positive[own].mean()), 4) if n else 0.0
        rows.append({"from": number / N_BINS, "n": n, "mean_score": mean, "observed_frac": observed})
    return rows


def measure_calibration(table: list[dict[str, float]]) -> float:
    """Return the expected calibration error: the mean distance of score and observed fraction, by texts."""
    total = sum(row["n"] for row in table)
    gaps = sum(row["n"] * abs(row["mean_score"] - row["observed_frac"]) for row in table)
    return gaps / total if total else 0.0


def draw_reliability(table: list[dict[str, float]], error: float) -> str:
    """Return the picture of a reliability table as SVG: a point per tenth, as large as its share, beside the diagonal."""
    total = max(sum(row["n"] for row in table), 1)
    points = "".join(
        f'<circle cx="{60 + 300 * row["mean_score"]:.1f}" cy="{340 - 300 * row["observed_frac"]:.1f}" '
        f'r="{3 + 12 * (row["n"] / total) ** 0.5:.1f}"><title>{row["n"]:.0f} texts</title></circle>'
        for row in table
        if row["n"]
    )
    ticks = "".join(
        f'<text x="{60 + 300 * t:.0f}" y="358" text-anchor="middle">{t:.1f}</text>'
        f'<text x="52" y="{344 - 300 * t:.0f}" text-anchor="end">{t:.1f}</text>'
        for t in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 400" font-family="sans-serif" font-size="12" role="img" '
        f'aria-label="Reliability of the guard: expected calibration error {error:.3f}">'
        '<rect width="400" height="400" fill="#fff"/>'
        '<path d="M60 40V340H360" fill="none" stroke="#444"/><path d="M60 340L360 40" stroke="#aaa" stroke-dasharray="4"/>'
        f'<g fill="#2563eb" fill-opacity=".7">{points}</g>{ticks}'
        '<text x="210" y="384" text-anchor="middle">score</text>'
        '<text x="16" y="190" text-anchor="middle" transform="rotate(-90 16 190)">fraction that was harmful</text>'
        f'<text x="70" y="28">Themes that training had not seen; calibration error {error:.3f}</text></svg>\n'
    )

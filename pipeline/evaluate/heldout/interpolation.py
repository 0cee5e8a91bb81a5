"""Mix two models token by token: p = w · p₁ + (1 - w) · p₂, with the weight chosen on other documents than it is measured on.

In: nats per token of both models, document by document. Out: nats of the mixture and the mean weight. Documents are split into two
halves by their parity; each half is measured with the weight that is best on the other (two-fold cross-fitting), so that
no document has a say in its own weight. Time: 20 passes over the tokens; the likelihood is concave in w, so bisection finds it.

Paper: linear interpolation of language models (Jelinek & Mercer 1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

N_BISECTIONS = 20  # the weight to 1e-6
MAX_LOG_RATIO = 60.0  # beyond it one of the two has no influence

Floats = NDArray[np.float64]


class Mixed(NamedTuple):
    """The nats of the mixture per token of each document, and the mean of the two halves' weights of the first model."""

    nats: list[Floats]
    weight: float


def mix(first: Sequence[Floats], second: Sequence[Floats]) -> Mixed:
    """Return the mixture of two models' nats of the same at least two documents."""
    log_ratios = [np.clip(b - a, -MAX_LOG_RATIO, MAX_LOG_RATIO) for a, b in zip(first, second, strict=True)]
    halves = [np.exp(np.concatenate(log_ratios[half::2])) for half in (0, 1)]
    weights = [find_best_weight(ratios) for ratios in halves[::-1]]
    nats = [
        nats_b - np.log1p(weights[number % 2] * np.expm1(log_ratio))
        for number, (nats_b, log_ratio) in enumerate(zip(second, log_ratios, strict=True))
    ]
    return Mixed(nats, sum(weights) / 2)


def find_best_weight(ratios: Floats) -> float:
    """Return the weight of the first model that maximizes the likelihood, given p₁ / p₂ of every token; 1/2 for no token."""
    low, high = 0.0, 1.0
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        slope = ((ratios - 1) / (1 + middle * (ratios - 1))).sum()
        low, high = (middle, high) if slope > 0 else (low, middle) if slope < 0 else (middle, middle)
    return (low + high) / 2

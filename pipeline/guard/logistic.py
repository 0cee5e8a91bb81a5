"""Train logistic regressions over hashed features: one output per category, one pass of Adagrad per epoch.

In: the features of texts, labels (1, 0, or -1: not known, which trains nothing) and a weight per text. Out: weights and biases. At
each step a part of the features is left out, so that no single word decides: `kill` alone says little, nor does its object.
One text at a time in a shuffled order, in one thread: the same bytes on every machine of the same arithmetic. Time: 0.2 CPU-s
per epoch of 8,000 texts and 16 outputs. Memory: two floats per bucket and output, 8 MB.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from model.guard.word_features import N_BUCKETS, FeatureRows
from pipeline.guard.params import GuardLearning

Floats = NDArray[np.float32]
Labels = NDArray[np.int8]
START_SQUARE = 1e-3  # of Adagrad: the first step of a weight is not longer than a later one by more than 30 times


class LogisticWeights(NamedTuple):
    """Weights (buckets × outputs), rounded to what is stored, and biases."""

    weights: Floats
    biases: Floats


def train_logistic(
    params: GuardLearning, rows: FeatureRows, labels: Labels, sample_weights: Floats, seed: int
) -> LogisticWeights:
    """Return trained weights; all zeros for no texts."""
    n_outputs = labels.shape[1]
    weights = np.zeros((N_BUCKETS, n_outputs), np.float32)
    biases = np.zeros(n_outputs, np.float32)
    squares = np.full((N_BUCKETS, n_outputs), START_SQUARE, np.float32)
    bias_squares = np.full(n_outputs, START_SQUARE, np.float32)
    rng = np.random.default_rng(seed)
    for epoch in range(params.n_epochs):
        rate = params.learning_rate * (1 - epoch / params.n_epochs)
        order = rng.permutation(len(rows))
        _run_epoch(
            rows.buckets,
            rows.offsets,
            labels,
            sample_weights,
            order,
            (weights, biases, squares, bias_squares),
            (rate, params.weight_decay, params.dropout_frac),
            int(rng.integers(1 << 62)),
        )
    return LogisticWeights(weights.astype(np.float16).astype(np.float32), biases)


@numba.njit(cache=True, nogil=True)
def _run_epoch(
    buckets: NDArray[np.int32],
    offsets: NDArray[np.int64],
    labels: Labels,
    sample_weights: Floats,
    order: NDArray[np.int64],
    state: tuple[Floats, Floats, Floats, Floats],
    settings: tuple[float, float, float],
    seed: int,
) -> None:  # pragma: no cover (compiled)
    weights, biases, squares, bias_squares = state
    rate, decay, dropout = np.float32(settings[0]), np.float32(settings[1]), settings[2]
    n_outputs = labels.shape[1]
    random = np.uint64(seed) | np.uint64(1)
    limit = np.uint64(dropout * 65536.0)
    kept, steps = np.empty(0, np.int32), np.zeros(n_outputs, np.float32)
    for row in order:
        n = offsets[row + 1] - offsets[row]
        if n > len(kept):
            kept = np.empty(n, np.int32)
        n_kept = 0
        for at in range(offsets[row], offsets[row + 1]):
            random ^= random << np.uint64(13)  # xorshift64
            random ^= random >> np.uint64(7)
            random ^= random << np.uint64(17)
            if (random >> np.uint64(20)) & np.uint64(65535) >= limit:
                kept[n_kept] = buckets[at]
                n_kept += 1
        if n_kept == 0:
            continue
        scale = np.float32(1.0 / np.sqrt(n_kept))
        for k in range(n_outputs):
            steps[k] = 0
        for at in range(n_kept):  # outputs inside: they are contiguous, and computed side by side
            bucket = kept[at]
            for k in range(n_outputs):
                steps[k] += weights[bucket, k]
        for k in range(n_outputs):
            logit = steps[k] * scale + biases[k]
            error = np.float32(0)
            if labels[row, k] >= 0:
                error = np.float32((1.0 / (1.0 + np.exp(-logit)) - labels[row, k]) * sample_weights[row])
            bias_squares[k] += error * error
            biases[k] -= rate * error / np.sqrt(bias_squares[k])
            steps[k] = error * scale
        for at in range(n_kept):
            bucket = kept[at]
            for k in range(n_outputs):
                gradient = steps[k] + decay * weights[bucket, k]
                squares[bucket, k] += gradient * gradient
                weights[bucket, k] -= rate * gradient / np.sqrt(squares[bucket, k])

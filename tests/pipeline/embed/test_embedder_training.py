from __future__ import annotations

import numpy as np
import pytest

from pipeline.embed.embedder_training import Learner, PairBatch
from pipeline.embed.parallel import Matrix, open_threads
from pipeline.embed.word_counts import Counts

N, WORDS, WIDTH, TEMPERATURE = 12, 30, 6, 0.5


def make_counts(seed: int) -> Counts:
    random = np.random.default_rng(seed)
    ids = np.concatenate([np.sort(random.choice(WORDS, 5, replace=False)) for _ in range(N)]).astype(np.int32)
    return Counts(np.arange(N + 1) * 5, ids, random.integers(1, 4, 5 * N).astype(np.float32))


BATCH = PairBatch(make_counts(1), make_counts(2), np.array([0, 0, *range(2, N)]))
VECTORS = np.random.default_rng(5).standard_normal((WORDS, WIDTH)).astype(np.float32)


def compute_loss(vectors: Matrix) -> float:
    """Return the symmetric loss, written down plainly in double precision."""

    def embed(counts: Counts) -> np.ndarray:
        dense = np.zeros((N, WORDS))
        dense[counts.list_owners(), counts.ids] = 1 + np.log(counts.counts)
        rows = dense @ vectors.astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    scores = embed(BATCH.asked) @ embed(BATCH.answers).T / TEMPERATURE
    scores[0, 1] = scores[1, 0] = -1e4
    rows, columns = (np.diagonal(s) - np.log(np.exp(s).sum(axis=1)) for s in (scores, scores.T))
    return float(-(rows.mean() + columns.mean()) / 2)


def test_a_step_goes_down_the_true_gradient() -> None:
    with open_threads() as threads:
        learner = Learner(VECTORS.copy(), np.ones(WORDS, np.float32), threads)
        learner.step(BATCH, TEMPERATURE, 1e-3)
    change = learner.vectors - VECTORS
    for word in (int(BATCH.asked.ids[0]), int(BATCH.answers.ids[7])):
        gradient = np.zeros(WIDTH)
        for k in range(WIDTH):
            moved = np.repeat(VECTORS[None].astype(np.float64), 2, axis=0)
            moved[:, word, k] += [1e-4, -1e-4]
            gradient[k] = (compute_loss(moved[0]) - compute_loss(moved[1])) / 2e-4
        scale = 1e-3 / np.sqrt((gradient**2).mean())  # Adagrad's first step
        np.testing.assert_allclose(change[word], -scale * gradient, rtol=2e-2, atol=1e-6)


def test_training_finds_the_pairs() -> None:
    with open_threads() as threads:
        learner = Learner(VECTORS.copy(), np.ones(WORDS, np.float32), threads)
        losses = [learner.step(BATCH, 0.1, 0.3) for _ in range(60)]
    assert losses[-1] < losses[0] / 4


def test_any_number_of_threads_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for n in ("1", "4"):
        monkeypatch.setenv("MINIGPT_WORKERS", n)
        with open_threads() as threads:
            learner = Learner(VECTORS.copy(), np.ones(WORDS, np.float32), threads)
            for _ in range(5):
                learner.step(BATCH, 0.1, 0.3)
            results.append(learner.vectors.tobytes())
    assert results[0] == results[1]

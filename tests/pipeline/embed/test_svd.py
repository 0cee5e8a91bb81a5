from __future__ import annotations

import numpy as np

from pipeline.embed.parallel import open_threads
from pipeline.embed.svd import find_directions, scale_rows
from pipeline.embed.word_counts import Counts


def make(n: int, n_words: int) -> Counts:
    random = np.random.default_rng(3)
    dense = random.integers(0, 3, (n, n_words)) * (random.random((n, n_words)) < 0.3)
    rows, ids = np.nonzero(dense)
    starts = np.searchsorted(rows, np.arange(n + 1))
    return Counts(starts, ids.astype(np.int32), dense[rows, ids].astype(np.float32))


def test_the_singular_values_are_those_of_numpy() -> None:
    counts, weights = make(60, 24), np.linspace(1, 2, 24, dtype=np.float32)
    scaled = scale_rows(counts, weights)
    dense = np.zeros((60, 24), np.float32)
    dense[scaled.list_owners(), scaled.ids] = scaled.counts
    with open_threads() as threads:
        vectors, values = find_directions(counts, weights, 8, 4, 1, threads)
    _, wanted, directions = np.linalg.svd(dense)
    np.testing.assert_allclose(values, wanted[:8], rtol=1e-3)
    np.testing.assert_allclose(np.abs((vectors * directions[:8].T).sum(axis=0)), 1, rtol=1e-2)


def test_more_dimensions_than_words_are_zeros() -> None:
    with open_threads() as threads:
        vectors, values = find_directions(make(5, 4), np.ones(4, np.float32), 8, 2, 1, threads)
    assert vectors.shape == (4, 8)
    assert not values[4:].any()

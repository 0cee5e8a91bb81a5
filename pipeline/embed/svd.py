"""Find the directions in which weighted word counts vary most: a truncated singular value decomposition.

In: counts per text, a weight per word. Each row becomes (1 + log count) · weight, scaled to unit length. Out: the right singular
vectors, one row per word, and the singular values. Randomized subspace iteration (Halko, Martinsson & Tropp, SIAM Review 2011).

Memory: words × (width + 16) numbers, a few times. Time: 1 CPU-s a round for 57,000 texts and 27,000 words.
"""

from __future__ import annotations

from typing import Any, cast

import numba
import numpy as np

from pipeline.embed.parallel import Matrix, Threads
from pipeline.embed.word_counts import Counts, transpose

OVERSAMPLING = 16
jit = cast("Any", numba.njit)(cache=True, nogil=True)


def find_directions(
    counts: Counts, weights: Matrix, width: int, n_rounds: int, seed: int, threads: Threads
) -> tuple[Matrix, Matrix]:
    """Return (vectors of shape (words, width), singular values), largest first."""
    n_words = len(weights)
    rows = scale_rows(counts, weights)
    columns = transpose(rows, n_words)
    n_columns = min(width + OVERSAMPLING, n_words, counts.n_rows)
    basis = np.random.default_rng(seed).standard_normal((n_words, n_columns), np.float32)
    image = np.empty((counts.n_rows, n_columns), np.float32)
    for _ in range(n_rounds):
        basis = np.ascontiguousarray(np.linalg.qr(basis)[0], np.float32)
        threads.run(multiply_rows, counts.n_rows, *rows, basis, image)
        threads.run(multiply_rows, n_words, *columns, image, basis)
    basis = np.ascontiguousarray(np.linalg.qr(basis)[0], np.float32)
    threads.run(multiply_rows, counts.n_rows, *rows, basis, image)
    squares, rotation = np.linalg.eigh(image.astype(np.float64).T @ image)
    order = np.argsort(-squares)[:width]
    values = np.sqrt(np.maximum(squares[order], 0)).astype(np.float32)
    vectors = np.zeros((n_words, width), np.float32)
    vectors[:, : len(order)] = basis @ rotation[:, order].astype(np.float32)
    return vectors, np.pad(values, (0, width - len(values)))


def scale_rows(counts: Counts, weights: Matrix) -> Counts:
    """Return (1 + log count) · weight, each row scaled to unit length."""
    values = (1 + np.log(counts.counts)) * weights[counts.ids]
    squares = np.bincount(counts.list_owners(), weights=values * values, minlength=counts.n_rows)
    norms = np.sqrt(np.maximum(squares, 1e-12))
    return counts._replace(counts=(values / np.repeat(norms, np.diff(counts.starts))).astype(np.float32))


@jit
def multiply_rows(
    starts: Any, ids: Any, values: Any, dense: Any, out: Any, start: Any, end: Any
) -> Any:  # pragma: no cover (compiled)
    """Multiply some sparse rows with a dense matrix."""
    for row in range(start, end):
        line = out[row]
        line[:] = 0
        for i in range(starts[row], starts[row + 1]):
            value, other = values[i], dense[ids[i]]
            for k in range(len(line)):
                line[k] += value * other[k]

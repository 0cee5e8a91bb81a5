"""Run a compiled function over fixed ranges of rows in threads, and keep BLAS to one thread.

The ranges depend on the number of rows only, and every row belongs to one range, so any number of threads gives the same bytes.
BLAS sums in another order when it splits a product among threads: products are split here instead.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pipeline.workers.map import count_workers

N_RANGES = 8
Matrix = NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")


class Threads:
    """A pool of threads for functions that release the GIL."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool

    def run(self, function: Callable[..., Any], n_rows: int, *arguments: Any) -> None:
        """Call `function(*arguments, start, end)` for each range of rows."""
        ranges = [(n_rows * i // N_RANGES, n_rows * (i + 1) // N_RANGES) for i in range(N_RANGES)]
        list(self._pool.map(lambda each: function(*arguments, *each), ranges))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return the results in the order of the items."""
        return list(self._pool.map(function, items))

    def multiply(self, one: Matrix, two: Matrix) -> Matrix:
        """Return the matrix product."""
        out = np.empty((len(one), two.shape[1]), np.float32)

        def multiply_range(start: int, end: int) -> None:
            np.matmul(one[start:end], two, out=out[start:end])

        self.run(multiply_range, len(one))
        return out


@contextmanager
def open_threads() -> Generator[Threads]:
    """Start threads, as many as there are workers; BLAS has one thread meanwhile."""
    with threadpool_limits(1), ThreadPoolExecutor(max(1, min(N_RANGES, count_workers()))) as pool:
        yield Threads(pool)

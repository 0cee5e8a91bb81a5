"""Which rows come when: a function of the row's number in the run, the same for any number of processes.

In: how many rows each source has, a seed, the sources' shares. Out: for each row of the run its source, its epoch there and which
row it is. Memory: two permutations a source (16 bytes a row), 16 bytes for each row of a cycle. Time: a microsecond a row, and a
permutation at the start of each epoch.

Fair shares: Tijdeman 1980, The chairman assignment problem: with any shares each source can have, after every single row, less
than one row too many or too few.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

CYCLE_ROWS = 10_000  # shares that are no whole rows of a cycle this long are rounded: by at most 0.01 %


class EpochRow(NamedTuple):
    """A row of an epoch of a source; most batches have one source, number 0."""

    source: int
    epoch: int
    row: int


class Order:
    """`cycle` says from which source the next row is, over and over; a source's rows come once in each of its epochs, each time
    in another order. Row `number` of the run is found without those before it."""

    def __init__(self, n_rows: Sequence[int], seed: int, cycle: Sequence[int] = (0,)) -> None:
        self._n_rows, self._seed = n_rows, seed
        self._cycle = np.asarray(cycle, dtype=np.int64)
        self._counts = np.bincount(self._cycle, minlength=len(n_rows))
        self._earlier = np.zeros(len(cycle), dtype=np.int64)  # rows of the same source before it in the cycle
        for source in range(len(n_rows)):
            self._earlier[self._cycle == source] = np.arange(self._counts[source])
        self._permutation = lru_cache(maxsize=2 * len(n_rows))(_permutation)

    def at(self, number: int) -> EpochRow:
        cycle, position = divmod(number, len(self._cycle))
        source = int(self._cycle[position])
        n_rows = self._n_rows[source]
        epoch, place = divmod(cycle * int(self._counts[source]) + int(self._earlier[position]), n_rows)
        return EpochRow(source, epoch, int(self._permutation(n_rows, self._seed, epoch, source)[place]))

    def list_step_rows(self, step: int, batch_rows: int, rank: int = 0, n_ranks: int = 1) -> list[EpochRow]:
        """The rows of a rank's part of a global batch."""
        share = get_rank_slice(batch_rows, rank, n_ranks)
        return [self.at(step * batch_rows + index) for index in range(share.start, share.stop)]

    def count_drawn(self, number: int) -> list[int]:
        """How many of the first `number` rows of the run are of each source."""
        cycles, rest = divmod(number, len(self._cycle))
        return (cycles * self._counts + np.bincount(self._cycle[:rest], minlength=len(self._n_rows))).tolist()


def _permutation(n: int, seed: int, epoch: int, source: int) -> Int[np.ndarray, " N"]:
    key = [seed, epoch, source] if source else [seed, epoch]
    return np.random.Generator(np.random.PCG64(key)).permutation(n)


def get_rank_slice(batch_rows: int, rank: int, n_ranks: int) -> slice:
    if batch_rows % n_ranks:
        raise ValueError(
            f"batch_rows must be a multiple of the number of processes; found {batch_rows} and {n_ranks}; change one."
        )
    share = batch_rows // n_ranks
    return slice(rank * share, (rank + 1) * share)


def make_fair_cycle(weights: Sequence[float]) -> list[int]:
    """The shortest cycle with these shares of rows, or one of CYCLE_ROWS with about these; none of them gets less than a row.

    Raises: ValueError for a weight that is not above 0, or too many of them.
    """
    if not weights or len(weights) > CYCLE_ROWS or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(
            f"a mixture needs 1 to {CYCLE_ROWS} weights above 0; found {list(weights)[:8]}; leave the others out."
        )
    counts = _whole_counts([Fraction(str(weight)) for weight in weights])
    length, spread = sum(counts), max(2 * len(counts) - 2, 1)
    cycle, drawn = [], [0] * len(counts)
    for row in range(1, length + 1):
        # Who is behind may have this row; among those, who would first be a row behind. Whole numbers: due x length x spread.
        due = [(count * row - length * have) * spread for count, have in zip(counts, drawn, strict=True)]
        behind = [source for source in range(len(counts)) if due[source] >= length]
        source = min(behind, key=lambda each: Fraction(length * (spread - 1) - due[each], counts[each]))
        cycle.append(source)
        drawn[source] += 1
    return cycle


def _whole_counts(weights: list[Fraction]) -> list[int]:
    """Rows of each source in a cycle."""
    scale = lcm(*(weight.denominator for weight in weights))
    counts = [int(weight * scale) for weight in weights]
    counts = [count // gcd(*counts) for count in counts]
    total = sum(counts)
    if total <= CYCLE_ROWS:
        return counts
    least = [max(CYCLE_ROWS * count // total, 1) for count in counts]
    by_rest = sorted(range(len(counts)), key=lambda each: -(CYCLE_ROWS * counts[each] % total))
    for source in by_rest[: max(CYCLE_ROWS - sum(least), 0)]:
        least[source] += 1
    return least

"""Define the order of rows: a function of the row's number in the run, the same for any number of processes.

In: the number of rows per source, a seed, the sources' shares. Out: for each row of the run its source, its epoch in that source
and its row number. Memory: two permutations per source (16 bytes per row), 16 bytes per row of a cycle. Time: a microsecond per
row, and a permutation at the start of each epoch.

Fair shares: Tijdeman 1980, The chairman assignment problem: for any shares there is an order in which, after every single row, each
source is less than one row ahead of or behind its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

CYCLE_ROWS = 10_000  # shares that are no multiple of 1/10,000 are rounded: by at most 0.01 %


class EpochRow(NamedTuple):
    """A row of an epoch of a source. Most batches have one source, number 0."""

    source: int
    epoch: int
    row: int


class Order:
    """The order of a run's rows. `cycle` lists the sources of consecutive rows and is repeated; a source's rows occur once in each
    of its epochs, each time in another order. Any row of the run is computed without those before it."""

    def __init__(self, n_rows: Sequence[int], seed: int, cycle: Sequence[int] = (0,)) -> None:
        self._n_rows, self._seed = n_rows, seed
        self._cycle = np.asarray(cycle, dtype=np.int64)
        self._counts = np.bincount(self._cycle, minlength=len(n_rows))
        self._earlier = np.zeros(len(cycle), dtype=np.int64)  # earlier rows of the same source in the cycle
        for source in range(len(n_rows)):
            self._earlier[self._cycle == source] = np.arange(self._counts[source])
        self._permutation = lru_cache(maxsize=2 * len(n_rows))(_permute)

    def at(self, number: int) -> EpochRow:
        """Return row `number` of the run."""
        cycle, position = divmod(number, len(self._cycle))
        source = int(self._cycle[position])
        n_rows = self._n_rows[source]
        epoch, index = divmod(cycle * int(self._counts[source]) + int(self._earlier[position]), n_rows)
        return EpochRow(source, epoch, int(self._permutation(n_rows, self._seed, epoch, source)[index]))

    def list_step_rows(self, step: int, batch_rows: int, rank: int = 0, n_ranks: int = 1) -> list[EpochRow]:
        """Return the rows of one rank's share of a global batch."""
        share = get_rank_slice(batch_rows, rank, n_ranks)
        return [self.at(step * batch_rows + index) for index in range(share.start, share.stop)]

    def count_drawn(self, number: int) -> list[int]:
        """Return how many of the first `number` rows of the run come from each source."""
        cycles, rest = divmod(number, len(self._cycle))
        return (cycles * self._counts + np.bincount(self._cycle[:rest], minlength=len(self._n_rows))).tolist()


def _permute(n: int, seed: int, epoch: int, source: int) -> Int[np.ndarray, " N"]:
    key = [seed, epoch, source] if source else [seed, epoch]
    return np.random.Generator(np.random.PCG64(key)).permutation(n)


def get_rank_slice(batch_rows: int, rank: int, n_ranks: int) -> slice:
    """Return the rows of a global batch that a rank computes. Raises: ValueError if they can't be divided equally."""
    if batch_rows % n_ranks:
        raise ValueError(
            f"batch_rows must be a multiple of the number of processes; found {batch_rows} and {n_ranks}; change one."
        )
    share = batch_rows // n_ranks
    return slice(rank * share, (rank + 1) * share)


def make_fair_cycle(weights: Sequence[float]) -> list[int]:
    """Return the shortest cycle with these shares of rows, or one of CYCLE_ROWS rows with shares rounded, to at least one row each.

    Raises: ValueError for a weight that is not above 0, or for too many weights.
    """
    if not weights or len(weights) > CYCLE_ROWS or not all(0 < weight < float("inf") for weight in weights):
        raise ValueError(
            f"a mixture needs 1 to {CYCLE_ROWS} weights above 0; found {list(weights)[:8]}; remove the others."
        )
    counts = _round_counts([Fraction(str(weight)) for weight in weights])
    length, spread = sum(counts), max(2 * len(counts) - 2, 1)
    cycle, drawn = [], [0] * len(counts)
    for row in range(1, length + 1):
        # Of the sources behind their share, take the one that would be a row behind first. Integers: due × length × spread.
        due = [(count * row - length * n_drawn) * spread for count, n_drawn in zip(counts, drawn, strict=True)]
        behind = [source for source in range(len(counts)) if due[source] >= length]
        source = min(behind, key=lambda each: Fraction(length * (spread - 1) - due[each], counts[each]))
        cycle.append(source)
        drawn[source] += 1
    return cycle


def _round_counts(weights: list[Fraction]) -> list[int]:
    """Return the number of rows per source in a cycle."""
    scale = lcm(*(weight.denominator for weight in weights))
    counts = [int(weight * scale) for weight in weights]
    counts = [count // gcd(*counts) for count in counts]
    total = sum(counts)
    if total <= CYCLE_ROWS:
        return counts
    rounded = [max(CYCLE_ROWS * count // total, 1) for count in counts]
    by_remainder = sorted(range(len(counts)), key=lambda each: -(CYCLE_ROWS * counts[each] % total))
    for source in by_remainder[: max(CYCLE_ROWS - sum(rounded), 0)]:
        rounded[source] += 1
    return rounded

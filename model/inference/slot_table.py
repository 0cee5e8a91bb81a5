"""Remember which tokens each slot of a KV cache has, and find the one that a prompt can continue.

In: prompts with the name of whose they are. Out: the slot to compute a prompt in, and how many of its tokens are there already.
A slot keeps its tokens after its answer, and other prompts of the same owner reuse the longest common prefix: in place where it
continues what the slot has, else copied into another slot, from running answers too. What one owner has computed is never used for
another. Slots that were not used for the longest time are overwritten first.
Memory: 4 bytes per slot and token. Time: one vectorized comparison with the slots of the owner.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_IN_PLACE_FRAC = 0.5  # of a slot's tokens that a prompt must share to overwrite the rest of them


class SlotChoice(NamedTuple):
    """Where to compute a prompt: the first `n_reused` of its tokens come from `source`, which may be the slot itself."""

    slot: int
    source: int
    n_reused: int


class SlotTable:
    """The tokens of `n_slots` slots. Slots are free until they are occupied; their tokens stay when they are released."""

    def __init__(self, n_slots: int, seq_len: int) -> None:
        self._ids: NDArray[np.int32] = np.zeros((n_slots, seq_len), np.int32)
        self._lengths: NDArray[np.int64] = np.zeros(n_slots, np.int64)
        self._owners: list[str | None] = [None] * n_slots
        self._used_at: NDArray[np.int64] = np.zeros(n_slots, np.int64)
        self._is_free: NDArray[np.bool_] = np.ones(n_slots, np.bool_)
        self._clock = 0

    @property
    def n_free(self) -> int:
        return int(self._is_free.sum())

    def occupy(self, owner: str, prompt: Sequence[int]) -> SlotChoice:
        """Occupy the best free slot for a prompt, whose last token is always computed. There must be a free one."""
        source, n_shared = self._find_source(owner, prompt)
        slot = source
        if n_shared == 0 or not self._is_free[source] or n_shared < MIN_IN_PLACE_FRAC * self._lengths[source]:
            slot = self._find_victim()
        choice = SlotChoice(slot, source, n_shared)
        self._clock += 1
        self._is_free[slot], self._used_at[slot], self._owners[slot] = False, self._clock, owner
        self._ids[slot, :n_shared] = prompt[:n_shared]
        self._lengths[slot] = n_shared
        return choice

    def append(self, slot: int, position: int, ids: Sequence[int] | NDArray[np.int64]) -> None:
        """Record tokens that are computed now; what was behind `position` is gone."""
        end = position + len(ids)
        self._ids[slot, position:end] = ids
        self._lengths[slot] = end

    def append_each(self, slots: NDArray[np.int64], positions: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        """Record one more token of each slot."""
        self._ids[slots, positions] = ids
        self._lengths[slots] = positions + 1

    def count(self, slot: int) -> int:
        """Return how many tokens a slot has."""
        return int(self._lengths[slot])

    def count_each(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many tokens each slot has."""
        return self._lengths[slots]

    def count_shared(self, slot: int, prompt: Sequence[int]) -> int:
        """Return how many tokens of an occupied slot a prompt begins with, without its last one; what is behind them is gone."""
        n = min(len(prompt) - 1, self.count(slot))
        differs = np.flatnonzero(self._ids[slot, :n] != np.array(prompt[:n], np.int32))
        self._lengths[slot] = int(differs[0]) if len(differs) else n
        return self.count(slot)

    def release(self, slot: int) -> None:
        """Free a slot; its tokens stay for later prompts of its owner."""
        self._is_free[slot] = True

    def forget(self, owner: str | None = None) -> None:
        """Never use an owner's tokens again, or anyone's. Answers that are running go on."""
        for slot, name in enumerate(self._owners):
            if owner is None or name == owner:
                self._owners[slot] = None
                if self._is_free[slot]:
                    self._lengths[slot] = 0

    def _find_source(self, owner: str, prompt: Sequence[int]) -> tuple[int, int]:
        """Return the owner's slot with the longest common prefix, and its length; a free slot where several have it."""
        slots = np.array([slot for slot, name in enumerate(self._owners) if name == owner and self._lengths[slot]], int)
        n = len(prompt) - 1
        if not len(slots) or n == 0:
            return 0, 0
        wanted = np.array(prompt[:n], np.int32)
        is_same = (self._ids[slots, :n] == wanted) & (np.arange(n) < self._lengths[slots, None])
        n_shared = np.where(is_same.all(axis=1), n, is_same.argmin(axis=1))
        best = int(np.lexsort((self._used_at[slots], self._is_free[slots], n_shared))[-1])
        return int(slots[best]), int(n_shared[best])

    def _find_victim(self) -> int:
        """Return the free slot that was not used for the longest time, an empty one first."""
        free = np.flatnonzero(self._is_free)
        return int(free[np.lexsort((self._used_at[free], self._lengths[free] > 0))[0]])

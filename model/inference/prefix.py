"""Keep the keys and values of a conversation between its answers: the interface of every backend, without torch.

In: prompts, each of which continues, shortens or replaces the last one. Out: logits in fp32, and the ids of answers. Only what
follows the longest common prefix is computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from model.inference.sampling import Sampling
from model.machine.row_sampling import choose_rows
from model.network.config import ModelConfig

Floats = NDArray[np.float32]


class Prefix(ABC):
    """The cached tokens of one conversation, which the next prompt continues.

    A prompt is compared with the cached ids: the longest common prefix is reused, the rest is discarded and computed. So any prompt
    is correct, and one that continues the last answer costs its new tokens only. Belongs to one conversation and generates one
    answer at a time; many share a model.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.n_reused = 0  # prompt tokens of the last answer that were cached
        self.n_computed = 0  # prompt tokens of the last answer that were computed
        self._is_busy = Lock()

    @abstractmethod
    def extend(self, prompt: Sequence[int]) -> Floats:
        """Return the logits [1, V] after the prompt, and cache it. Raises: ValueError for an empty or too long one."""

    @abstractmethod
    def extend_all(self, ids: Sequence[int], position: int) -> Floats:
        """Return the logits [N, V] after each of `ids`, which follow the first `position` cached ids; cache them instead of what
        followed.

        Raises: ValueError if so many are not cached, or if `ids` exceed the window.
        """

    @abstractmethod
    def stream(
        self, prompt: Sequence[int], sampling: Sampling, stop_ids: Collection[int] = ()
    ) -> Generator[int, None, None]:
        """Generate one answer, until a stop id, max_tokens or the end of the window. The same seed gives the same ids.

        Raises: ValueError for a prompt that is empty or too long, or while another answer is being generated.
        """

    @contextmanager
    def occupy(self) -> Generator[None]:
        """Use the cache alone. Raises: ValueError while another answer is being generated."""
        if not self._is_busy.acquire(blocking=False):
            raise ValueError(
                "a conversation generates one answer at a time; found another one running; finish or close it first."
            )
        try:
            yield
        finally:
            self._is_busy.release()


class OwnPrefix(Prefix):
    """A prefix with keys and values of its own.

    Memory: ModelConfig.cache_bytes for the longest prompt and answer so far, at most for the window, twice that while it grows:
    2 kB per token and 0.8 MB in total for the default model (4 layers, one KV head of 64, a window of 384).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.ids: list[int] = []  # the ids whose keys and values are cached
        self._n_allocated = 0

    def extend(self, prompt: Sequence[int]) -> Floats:
        """Return the logits [1, V] after the prompt, and cache it. Raises: ValueError for an empty or too long one."""
        if not 0 < len(prompt) <= self.config.seq_len:  # the kernels do not check positions
            raise ValueError(
                f"a prompt must have 1 to {self.config.seq_len} tokens (model.seq_len); found {len(prompt)}; shorten it."
            )
        n_kept = 0
        for cached, wanted in zip(
            self.ids, prompt[:-1], strict=False
        ):  # the last id is always computed, for its logits
            if cached != wanted:
                break
            n_kept += 1
        self.n_reused, self.n_computed = n_kept, len(prompt) - n_kept
        return self._append(prompt[n_kept:], n_kept)

    def extend_all(self, ids: Sequence[int], position: int) -> Floats:
        """Return the logits [N, V] after each of `ids`, which follow the first `position` cached ids; cache them instead of what
        followed.

        Raises: ValueError if so many are not cached, or if `ids` exceed the window.
        """
        if position > len(self.ids) or not 0 < len(ids) <= self.config.seq_len - position:
            raise ValueError(
                f"ids must follow cached ones inside the window; found {len(ids)} at {position} with {len(self.ids)} cached "
                f"and a window of {self.config.seq_len}; extend the prompt first, or shorten them."
            )
        del self.ids[position:]
        self._reserve(position + len(ids))
        logits = self._compute_all(ids, position)
        self.ids += ids
        return logits

    def stream(
        self, prompt: Sequence[int], sampling: Sampling, stop_ids: Collection[int] = ()
    ) -> Generator[int, None, None]:
        """Generate one answer, until a stop id, max_tokens or the end of the window. The same seed gives the same ids.

        Raises: ValueError for a prompt that is empty or too long, or while another answer is being generated.
        """
        check_prompt(self.config, prompt)
        with self.occupy():
            n_tokens = min(len(prompt) + sampling.max_tokens, self.config.seq_len)
            self._reserve(n_tokens)
            logits = self.extend(prompt)
            for position in range(len(prompt), n_tokens):
                index = choose_token(logits[0], sampling, position - len(prompt))
                if index in stop_ids:
                    return
                yield index
                if position + 1 < n_tokens:
                    logits = self._append([index], position)

    def _append(self, ids: Sequence[int], position: int) -> Floats:
        """Compute `ids` at `position`. Cached ids from there on are discarded first, so an interruption leaves a valid cache."""
        del self.ids[position:]
        self._reserve(position + len(ids))
        logits = self._compute(ids, position)
        self.ids += ids
        return logits

    def _reserve(self, n_tokens: int) -> None:
        if n_tokens > self._n_allocated:
            n_tokens = min(max(n_tokens, 2 * self._n_allocated), self.config.seq_len)
            self._grow(n_tokens)
            self._n_allocated = n_tokens

    @abstractmethod
    def _grow(self, n_tokens: int) -> None:
        """Allocate memory for `n_tokens`; cached tokens stay."""

    @abstractmethod
    def _compute(self, ids: Sequence[int], position: int) -> Floats:
        """Compute and cache `ids` from `position` on. Return the logits after the last one."""

    @abstractmethod
    def _compute_all(self, ids: Sequence[int], position: int) -> Floats:
        """Compute and cache `ids` from `position` on. Return the logits after each."""


def choose_token(logits: Floats, sampling: Sampling, number: int) -> int:
    """Return token `number` of an answer, given the logits [V] before it."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    ids = np.empty(1, np.int64)
    temperature, top_p = (np.array([value], np.float64) for value in (sampling.temperature, sampling.top_p))
    settings = temperature, np.array([sampling.top_k], np.int64), top_p
    choose_rows(logits[None], *settings, np.array([sampling.seed], np.uint64), np.array([number]), ids)
    return int(ids[0])


def check_prompt(config: ModelConfig, prompt: Sequence[int]) -> None:
    """Raise ValueError for a prompt that is empty or leaves no room for an answer."""
    if not 0 < len(prompt) < config.seq_len:
        raise ValueError(
            f"a prompt must have 1 to {config.seq_len - 1} tokens (model.seq_len - 1); found {len(prompt)}; "
            "shorten it (model.tokenizer.window.fit_to_window does)."
        )

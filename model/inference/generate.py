"""Generate with a KV cache: one prompt as a stream, a conversation turn by turn, or many prompts greedily in batches.

In: the ids of a prompt. Out: generated ids, without the stop id. Memory: the cache (ModelConfig.cache_bytes). Time: the part of
the prompt that is not cached is computed once; each further token costs O(weights + cache). Batched = single and cached =
uncached, to the token, in fp32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.transformer import KVCache, Transformer


class Prefix(ABC):
    """The keys and values of one conversation, which the next prompt continues.

    A prompt is compared with the cached ids: the longest common prefix is reused, the rest is discarded and computed. So any prompt
    is correct, and one that continues the last answer costs its new tokens only. Belongs to one conversation and generates one
    answer at a time; many share a model.

    Memory: ModelConfig.cache_bytes for the longest prompt and answer so far, at most for the window, twice that while it grows:
    2 kB per token and 0.8 MB in total for the default model (4 layers, one KV head of 64, a window of 384).
    """

    def __init__(self, config: ModelConfig, device: torch.device | str = "cpu") -> None:
        self.config = config
        self.ids: list[int] = []  # the ids whose keys and values are cached
        self.n_reused = 0  # prompt tokens of the last answer that were cached
        self.n_computed = 0  # prompt tokens of the last answer that were computed
        self._device = device
        self._n_allocated = 0
        self._is_busy = Lock()

    def extend(self, prompt: Sequence[int]) -> Float[Tensor, "1 V"]:
        """Return the logits after the prompt, and cache it. Raises: ValueError for one that is empty or exceeds the window."""
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

    def extend_all(self, ids: Sequence[int], position: int) -> Float[Tensor, "N V"]:
        """Return the logits after each of `ids`, which follow the first `position` cached ids; cache them instead of what followed.

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
            generator = torch.Generator(device=self._device).manual_seed(sampling.seed)
            logits = self.extend(prompt)
            for position in range(len(prompt), n_tokens):
                index = self._choose(logits, sampling, generator)
                if index in stop_ids:
                    return
                yield index
                if position + 1 < n_tokens:
                    logits = self._append([index], position)

    def _append(self, ids: Sequence[int], position: int) -> Float[Tensor, "1 V"]:
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

    def _choose(self, logits: Float[Tensor, "1 V"], sampling: Sampling, generator: torch.Generator) -> int:
        return int(sample(logits.float(), sampling, generator))

    @abstractmethod
    def _grow(self, n_tokens: int) -> None:
        """Allocate memory for `n_tokens`; cached tokens stay."""

    @abstractmethod
    def _compute(self, ids: Sequence[int], position: int) -> Float[Tensor, "1 V"]:
        """Compute and cache `ids` from `position` on. Return the logits after the last one."""

    @abstractmethod
    def _compute_all(self, ids: Sequence[int], position: int) -> Float[Tensor, "N V"]:
        """Compute and cache `ids` from `position` on. Return the logits after each."""


class TorchPrefix(Prefix):
    """A prefix computed by torch, on any device and in any precision."""

    def __init__(self, model: Transformer) -> None:
        weight = model.embedding.weight
        super().__init__(model.config, weight.device)
        self._model, self._dtype = model, weight.dtype
        self._cache = KVCache(model.config, 1, 0, dtype=self._dtype, device=self._device)

    def _grow(self, n_tokens: int) -> None:
        old, self._cache = self._cache, KVCache(self.config, 1, n_tokens, dtype=self._dtype, device=self._device)
        n_old = old.keys.shape[3]
        self._cache.keys[:, :, :, :n_old], self._cache.values[:, :, :, :n_old] = old.keys, old.values

    def _compute(self, ids: Sequence[int], position: int) -> Float[Tensor, "1 V"]:
        with torch.no_grad():
            return self._model.compute_logits(self._compute_hidden(ids, position)[:, -1])

    def _compute_all(self, ids: Sequence[int], position: int) -> Float[Tensor, "N V"]:
        with torch.no_grad():
            return self._model.compute_logits(self._compute_hidden(ids, position)[0])

    def _compute_hidden(self, ids: Sequence[int], position: int) -> Float[Tensor, "1 N D"]:
        self._cache.n_filled = position
        return self._model(torch.tensor([list(ids)], device=self._device), self._cache)


def stream(
    model: Transformer, prompt: Sequence[int], sampling: Sampling, stop_ids: Collection[int] = ()
) -> Iterator[int]:
    """Generate one answer with torch (Prefix.stream)."""
    return TorchPrefix(model).stream(prompt, sampling, stop_ids)


def generate(
    model: Transformer, prompt: Sequence[int], sampling: Sampling, *, stop_ids: Collection[int] = ()
) -> list[int]:
    """Return one whole answer."""
    return list(stream(model, prompt, sampling, stop_ids=stop_ids))


def sample(
    logits: Float[Tensor, "B V"], sampling: Sampling, generator: torch.Generator | None = None
) -> Int[Tensor, " B"]:
    """Choose one id per row: greedily, or at random from the top k and the nucleus of top_p in them (Holtzman et al. 2020)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probability = ordered.softmax(-1)
        is_beyond = probability.cumsum(-1) - probability >= sampling.top_p  # the most likely token is always inside
        logits = logits.masked_fill(is_beyond.scatter(-1, order, is_beyond), -torch.inf)
    # Inverse transform sampling: one random number per row, not one per token as torch.multinomial draws (72 µs for 4,096 tokens,
    # as long as a decoding step). The first token whose cumulative probability is above it never has probability zero.
    sums = logits.softmax(-1).double().cumsum(-1)
    points = torch.rand(len(sums), 1, dtype=sums.dtype, device=sums.device, generator=generator) * sums[:, -1:]
    return torch.searchsorted(sums, points, right=True)[:, 0]


@torch.no_grad()
def generate_batch(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
    batch_rows: int = 64,
    on_progress: Callable[[int], None] = lambda n_rows: None,
) -> list[list[int]]:
    """Return greedy answers in the order of the prompts. Prompts of similar length share a batch, padded on the left; finished
    rows leave it. `on_progress` gets the number of prompts answered since its last call."""
    for prompt in prompts:
        check_prompt(model.config, prompt)
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_rows):
        group = order[start : start + batch_rows]
        for index, answer in zip(
            group, _generate_greedily(model, [prompts[i] for i in group], max_new_tokens, stop_ids), strict=True
        ):
            answers[index] = answer
        on_progress(len(group))
    return answers


def _generate_greedily(
    model: Transformer, prompts: list[Sequence[int]], max_new_tokens: int, stop_ids: Collection[int]
) -> list[list[int]]:
    weight = model.embedding.weight
    longest = max(len(prompt) for prompt in prompts)
    pads = [longest - len(prompt) for prompt in prompts]
    n_tokens = longest + max_new_tokens
    n_pad = torch.tensor(pads, device=weight.device) if any(pads) else None
    cache = KVCache(model.config, len(prompts), n_tokens, n_pad=n_pad, dtype=weight.dtype, device=weight.device)
    padded = [[0] * pad + list(prompt) for pad, prompt in zip(pads, prompts, strict=True)]
    ids = torch.tensor(padded, device=weight.device)
    answers: list[list[int]] = [[] for _ in prompts]
    active = list(range(len(prompts)))
    room = [model.config.seq_len - len(prompt) for prompt in prompts]
    for _ in range(max_new_tokens):
        ids = model.compute_logits(model(ids, cache)[:, -1]).argmax(-1, keepdim=True)
        kept = []
        for row_index, (row, index) in enumerate(zip(active, ids[:, 0].tolist(), strict=True)):
            if index not in stop_ids:
                answers[row].append(index)
                if len(answers[row]) < room[row]:
                    kept.append(row_index)
        if not kept:
            break
        if len(kept) < len(active):
            active = [active[row_index] for row_index in kept]
            rows = torch.tensor(kept, device=weight.device)
            ids = ids[rows]
            cache.keep_rows(rows)
    return answers


def check_prompt(config: ModelConfig, prompt: Sequence[int]) -> None:
    """Raise ValueError for a prompt that is empty or leaves no room for an answer."""
    if not 0 < len(prompt) < config.seq_len:
        raise ValueError(
            f"a prompt must have 1 to {config.seq_len - 1} tokens (model.seq_len - 1); found {len(prompt)}; "
            "shorten it (model.tokenizer.window.fit_to_window does)."
        )

"""Generate with a KV cache: one prompt as a stream, a conversation turn by turn, or many prompts greedily in batches.

In: the ids of a prompt. Out: generated ids, without the stop id. Memory: the cache (ModelConfig.cache_bytes). Time: the part of
the prompt that is not cached is computed once; each further token costs O(weights + cache). Batched = single and cached =
uncached, to the token, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.inference.prefix import Floats, Prefix, check_prompt
from model.inference.sampling import Sampling
from model.network.transformer import KVCache, Transformer


class TorchPrefix(Prefix):
    """A prefix computed by torch, on any device and in any precision."""

    def __init__(self, model: Transformer) -> None:
        super().__init__(model.config)
        weight = model.embedding.weight
        self._model, self._dtype, self._device = model, weight.dtype, weight.device
        self._cache = KVCache(model.config, 1, 0, dtype=self._dtype, device=self._device)

    def _grow(self, n_tokens: int) -> None:
        old, self._cache = self._cache, KVCache(self.config, 1, n_tokens, dtype=self._dtype, device=self._device)
        n_old = old.keys.shape[3]
        self._cache.keys[:, :, :, :n_old], self._cache.values[:, :, :, :n_old] = old.keys, old.values

    def _compute(self, ids: Sequence[int], position: int) -> Floats:
        with torch.no_grad():
            return to_array(self._model.compute_logits(self._compute_hidden(ids, position)[:, -1]))

    def _compute_all(self, ids: Sequence[int], position: int) -> Floats:
        with torch.no_grad():
            return to_array(self._model.compute_logits(self._compute_hidden(ids, position)[0]))

    def _compute_hidden(self, ids: Sequence[int], position: int) -> Float[Tensor, "1 N D"]:
        self._cache.n_filled = position
        return self._model(torch.tensor([list(ids)], device=self._device), self._cache)


def to_array(logits: Float[Tensor, "B V"]) -> Floats:
    """Return logits as fp32 in main memory."""
    return logits.detach().float().cpu().numpy()


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

"""Generate with a KV cache: one prompt as a stream, a conversation turn by turn, or many prompts greedily in batches.

In: the ids of a prompt. Out: generated ids, without the stop id. Memory: the cache (ModelConfig.cache_bytes). Time: the part of
the prompt that is not cached is computed once; each further token costs O(weights + cache). Batched = single and cached =
uncached, to the token, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from model.inference.prefix import Floats, OwnPrefix, check_prompt
from model.inference.sampling import Sampling
from model.network.transformer import KVCache, Transformer, rotate

Rows = NDArray[np.int64]


class TorchPrefix(OwnPrefix):
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


class TorchEngine:
    """An engine that computes with torch, on any device and in any precision: one row of a KVCache per slot."""

    def __init__(self, model: Transformer, n_slots: int) -> None:
        self.model, self.config = model, model.config
        weight = model.embedding.weight
        self._cache = KVCache(model.config, n_slots, model.config.seq_len, dtype=weight.dtype, device=weight.device)

    @torch.no_grad()
    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        device = self._cache.keys.device
        last: list[Tensor] = []
        for slot, prompt in zip(slots, prompts, strict=True):
            last.append(
                self.model(torch.tensor([list(prompt)], device=device), self._cache.make_row_cache(slot))[:, -1]
            )
        return self.model.compute_logits(torch.cat(last))

    @torch.no_grad()
    def decode(self, ids: Sequence[int], slots: Sequence[int], positions: Sequence[int]) -> Float[Tensor, "B V"]:
        """Return the logits after one more id per slot; slots[b] has positions[b] tokens, which its id attends to."""
        device = self._cache.keys.device
        rows, lengths = torch.tensor(slots, device=device), torch.tensor(positions, device=device)
        cos, sin = self.model.cos[lengths][:, None, None], self.model.sin[lengths][:, None, None]  # B 1 1 K
        longest = max(positions) + 1
        mask = (torch.arange(longest, device=device) <= lengths[:, None])[:, None, None]  # B 1 1 S
        x = self.model.embedding(torch.tensor(ids, device=device))
        for index, layer in enumerate(self.model.layers):
            attention = layer.attention
            y = layer.attention_norm(x)
            q = attention.query(y).view(len(ids), attention.n_head, 1, attention.d_head)
            k = attention.key(y).view(len(ids), attention.n_kv_head, 1, attention.d_head)
            q, k = rotate(attention.query_norm(q), cos, sin), rotate(attention.key_norm(k), cos, sin)
            keys, values = self._cache.keys[index], self._cache.values[index]
            keys[rows, :, lengths] = k[:, :, 0]
            values[rows, :, lengths] = attention.value(y).view(len(ids), attention.n_kv_head, attention.d_head)
            q = q.view(len(ids), attention.n_kv_head, -1, attention.d_head)  # query heads that share keys act as tokens
            past = keys[rows, :, :longest], values[rows, :, :longest]  # B G S K
            y = torch.nn.functional.scaled_dot_product_attention(q, *past, attn_mask=mask)
            x = x + attention.out(y.reshape(len(ids), -1))
            x = x + layer.feed_forward(layer.feed_forward_norm(x))
        return self.model.compute_logits(self.model.norm(x))

    @property
    def n_parallel(self) -> int:
        """How many prompts are computed at once as fast as one."""
        return 1

    @torch.no_grad()
    def compute(self, ids: Rows, slots: Rows, positions: Rows, wanted: Rows) -> Floats:
        """Compute tokens; those of a slot are neighbors and ascend. Return the logits after the `wanted` ones."""
        cuts = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), len(slots)]
        is_single = np.array([end - start == 1 for start, end in pairwise(cuts)])
        n_single = len(is_single) if is_single.all() else int(is_single.argmin())  # running answers come first
        parts: list[Floats] = []
        if n_single:
            rows = (row[:n_single].tolist() for row in (ids, slots, positions))
            parts.append(to_array(self.decode(*rows)))
        for start, end in pairwise(cuts[n_single:]):
            cache = self._cache.make_row_cache(int(slots[start]))
            cache.n_filled = int(positions[start])
            hidden = self.model(torch.tensor([ids[start:end].tolist()], device=self._cache.keys.device), cache)[0]
            parts.append(to_array(self.model.compute_logits(hidden)))
        return np.concatenate(parts)[wanted]

    def copy_tokens(self, source: int, target: int, n_tokens: int) -> None:
        """Copy the keys and values of the first tokens of a slot into another one."""
        for cached in (self._cache.keys, self._cache.values):
            cached[:, target, :, :n_tokens] = cached[:, source, :, :n_tokens]


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

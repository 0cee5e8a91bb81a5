"""Generation with a KV cache: one prompt as a stream, or many at once and greedily.

In: ids of a prompt. Out: ids, one after the other, without the stop id. Memory: the cache, allocated once
(ModelConfig.cache_bytes). Time: the prompt is computed once, each further token costs O(weights + cache). Batched = single and
cached = uncached, to the token, in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.config import ModelConfig
from model.transformer import Cache, Transformer


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Temperature 0 takes the likeliest token; top_k 0 and top_p 1 leave every token in."""

    max_new_tokens: int = 256
    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1; found {self.max_new_tokens}; raise it.")
        if not 0 <= self.temperature <= 10:
            raise ValueError(f"temperature must lie between 0 and 10; found {self.temperature}; correct it.")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0 (0 = all); found {self.top_k}; correct it.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie above 0 and at most at 1; found {self.top_p}; correct it.")


@torch.no_grad()
def stream(
    model: Transformer, prompt: Sequence[int], sampling: Sampling, stop_ids: Collection[int] = ()
) -> Iterator[int]:
    """Ends at a stop id, after max_new_tokens, or when the window is full. The same seed gives the same ids."""
    check_prompt(model.config, prompt)
    weight = model.embedding.weight
    n_new = min(sampling.max_new_tokens, model.config.seq_len - len(prompt))
    cache = Cache(model.config, 1, len(prompt) + n_new, dtype=weight.dtype, device=weight.device)
    generator = torch.Generator(device=weight.device).manual_seed(sampling.seed)
    ids = torch.tensor([list(prompt)], device=weight.device)
    for _ in range(n_new):
        logits = model.logits(model(ids, cache)[:, -1])
        ids = sample(logits.float(), sampling, generator)[:, None]
        index = int(ids)
        if index in stop_ids:
            return
        yield index


def generate(
    model: Transformer, prompt: Sequence[int], sampling: Sampling, *, stop_ids: Collection[int] = ()
) -> list[int]:
    return list(stream(model, prompt, sampling, stop_ids=stop_ids))


def sample(
    logits: Float[Tensor, "B V"], sampling: Sampling, generator: torch.Generator | None = None
) -> Int[Tensor, " B"]:
    """Top-k first, then the smallest set of tokens whose probability reaches top_p (nucleus; Holtzman et al. 2020)."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        probability = ordered.softmax(-1)
        is_beyond = probability.cumsum(-1) - probability >= sampling.top_p  # the likeliest is never beyond
        logits = logits.masked_fill(is_beyond.scatter(-1, order, is_beyond), -torch.inf)
    # One random number a row, not one a token as torch.multinomial takes (72 µs for 4,096 tokens; a step is as much). The first
    # token whose sum lies above it: never one of no chance.
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
    """Greedy answers in the order of the prompts. Prompts of like length go together, padded at the left; finished rows
    leave the batch. `on_progress` gets the number of prompts answered since its last call."""
    for prompt in prompts:
        check_prompt(model.config, prompt)
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    for start in range(0, len(order), batch_rows):
        group = order[start : start + batch_rows]
        for index, answer in zip(
            group, _greedy(model, [prompts[i] for i in group], max_new_tokens, stop_ids), strict=True
        ):
            answers[index] = answer
        on_progress(len(group))
    return answers


def _greedy(
    model: Transformer, prompts: list[Sequence[int]], max_new_tokens: int, stop_ids: Collection[int]
) -> list[list[int]]:
    weight = model.embedding.weight
    longest = max(len(prompt) for prompt in prompts)
    pads = [longest - len(prompt) for prompt in prompts]
    n_tokens = longest + max_new_tokens
    n_pad = torch.tensor(pads, device=weight.device) if any(pads) else None
    cache = Cache(model.config, len(prompts), n_tokens, n_pad=n_pad, dtype=weight.dtype, device=weight.device)
    padded = [[0] * pad + list(prompt) for pad, prompt in zip(pads, prompts, strict=True)]
    ids = torch.tensor(padded, device=weight.device)
    answers: list[list[int]] = [[] for _ in prompts]
    active = list(range(len(prompts)))
    room = [model.config.seq_len - len(prompt) for prompt in prompts]
    for _ in range(max_new_tokens):
        ids = model.logits(model(ids, cache)[:, -1]).argmax(-1, keepdim=True)
        kept = []
        for place, (row, index) in enumerate(zip(active, ids[:, 0].tolist(), strict=True)):
            if index not in stop_ids:
                answers[row].append(index)
                if len(answers[row]) < room[row]:
                    kept.append(place)
        if not kept:
            break
        if len(kept) < len(active):
            active = [active[place] for place in kept]
            places = torch.tensor(kept, device=weight.device)
            ids = ids[places]
            cache.keep_rows(places)
    return answers


def check_prompt(config: ModelConfig, prompt: Sequence[int]) -> None:
    """Raises: ValueError for a prompt that is empty, or leaves no room for an answer."""
    if not 0 < len(prompt) < config.seq_len:
        raise ValueError(
            f"a prompt must have 1 to {config.seq_len - 1} tokens (model.seq_len - 1); found {len(prompt)}; "
            "shorten it (model.chat.fit does)."
        )

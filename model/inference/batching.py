"""Continuous batching: requests of any length share each step, join when a place is free and leave when they are done.

In: prompts with their sampling, in any number, at any time. Out: after each step the new id of every request at work. Prompts are
computed when they get their places, all that came since the last step at once; from then on one pass over the weights serves
all rows, which is what makes sixteen requests cost little more than a few. Each request has its own random numbers, so its ids
do not depend on who else is there.
Memory: `n_slots` rows of keys and values for the whole window, allocated once (ModelConfig.cache_bytes).
Paper: Yu et al. 2022 (Orca).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from model.inference.decoder import Decoder
from model.inference.generate import check_prompt, sample
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.transformer import KVCache, Transformer, rotate


class BatchEngine(Protocol):
    """Computes; knows no requests. A place is a row of its cache."""

    config: ModelConfig

    def prefill(self, places: Sequence[int], prompts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]: ...

    def decode(self, ids: Sequence[int], places: Sequence[int], positions: Sequence[int]) -> Float[Tensor, "B V"]: ...


class TokenEvent(NamedTuple):
    """What a step gave a request: an id, or None when the request is done."""

    ticket: int
    id: int | None


@dataclass
class _Request:
    ticket: int
    prompt: Sequence[int]
    sampling: Sampling
    stop_ids: Collection[int]
    generator: torch.Generator
    n_left: int
    last: int = field(default=0)  # the newest id, which no step has read yet
    n_tokens: int = field(default=0)  # in its place


class Batcher:
    """`add` any time; call `step` while `is_busy`. Not for several threads at once: a service gives it a thread of its own.

    fp32 weights on a CPU are computed by model.inference.decoder's kernel, others by torch.
    """

    def __init__(self, model: Transformer, n_slots: int = 16, *, engine: BatchEngine | None = None) -> None:
        if n_slots < 1:
            raise ValueError(f"n_slots must be at least 1; found {n_slots}; raise it.")
        weight = model.embedding.weight
        is_plain = weight.device.type == "cpu" and weight.dtype == torch.float32
        if engine is None:
            n_threads = torch.get_num_threads()
            engine = Decoder(model, n_slots=n_slots, n_threads=n_threads) if is_plain else TorchEngine(model, n_slots)
        self._engine = engine
        self._device = weight.device
        self._at_work: list[_Request | None] = [None] * n_slots
        self._waiting: deque[_Request] = deque()
        self._n_tickets = 0

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting) or any(self._at_work)

    def add(self, prompt: Sequence[int], sampling: Sampling, *, stop_ids: Collection[int] = ()) -> int:
        """A ticket that names the request in events. Raises ValueError for a prompt that is empty or fills the window."""
        config = self._engine.config
        check_prompt(config, prompt)
        self._n_tickets += 1
        n_left = min(sampling.max_tokens, config.seq_len - len(prompt))
        generator = torch.Generator(device=self._device).manual_seed(sampling.seed)
        self._waiting.append(_Request(self._n_tickets, prompt, sampling, stop_ids, generator, n_left))
        return self._n_tickets

    def cancel(self, ticket: int) -> None:
        """Forgets a request, waiting or at work; an unknown or finished one is no error (its client may just have left)."""
        self._waiting = deque(request for request in self._waiting if request.ticket != ticket)
        self._at_work = [None if request and request.ticket == ticket else request for request in self._at_work]

    def step(self) -> list[TokenEvent]:
        """One id for each request at work; places that are free are filled first."""
        events: list[TokenEvent] = []
        rows = [(place, request) for place, request in enumerate(self._at_work) if request]
        if rows:
            ids, positions = [request.last for _, request in rows], [request.n_tokens for _, request in rows]
            for _, request in rows:
                request.n_tokens += 1
            self._choose(rows, self._engine.decode(ids, [place for place, _ in rows], positions), events)
        while rows := self._fill():
            logits = self._engine.prefill([place for place, _ in rows], [request.prompt for _, request in rows])
            self._choose(rows, logits, events)
        return events

    def _fill(self) -> list[tuple[int, _Request]]:
        """Requests that wait get the places that are free."""
        rows: list[tuple[int, _Request]] = []
        for place, occupant in enumerate(self._at_work):
            if occupant is None and self._waiting:
                request = self._at_work[place] = self._waiting.popleft()
                request.n_tokens = len(request.prompt)
                rows.append((place, request))
        return rows

    def _choose(self, rows: list[tuple[int, _Request]], logits: Float[Tensor, "B V"], events: list[TokenEvent]) -> None:
        """A row's next id: all rows' likeliest at once, the others drawn one by one with their own random numbers."""
        is_plain = logits.device.type == "cpu" and logits.dtype == torch.float32
        likeliest: list[int] = (logits.numpy().argmax(-1) if is_plain else logits.argmax(-1)).tolist()
        for number, (place, request) in enumerate(rows):
            is_greedy = request.sampling.temperature == 0
            index = likeliest[number] if is_greedy else _draw(request, logits[number : number + 1])
            self._take(place, request, index, events)

    def _take(self, place: int, request: _Request, index: int, events: list[TokenEvent]) -> None:
        request.n_left -= 1
        is_stop = index in request.stop_ids
        if not is_stop:
            request.last = index
            events.append(TokenEvent(request.ticket, index))
        if is_stop or request.n_left == 0:
            self._at_work[place] = None
            events.append(TokenEvent(request.ticket, None))


def _draw(request: _Request, logits: Float[Tensor, "1 V"]) -> int:
    return int(sample(logits.float(), request.sampling, request.generator))


class TorchEngine:
    """Any device and precision: one row of a Cache a place."""

    def __init__(self, model: Transformer, n_slots: int) -> None:
        self.model, self.config = model, model.config
        weight = model.embedding.weight
        self._cache = KVCache(model.config, n_slots, model.config.seq_len, dtype=weight.dtype, device=weight.device)

    @torch.no_grad()
    def prefill(self, places: Sequence[int], prompts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        device = self._cache.keys.device
        last: list[Tensor] = []
        for place, prompt in zip(places, prompts, strict=True):
            last.append(
                self.model(torch.tensor([list(prompt)], device=device), self._cache.make_row_cache(place))[:, -1]
            )
        return self.model.compute_logits(torch.cat(last))

    @torch.no_grad()
    def decode(self, ids: Sequence[int], places: Sequence[int], positions: Sequence[int]) -> Float[Tensor, "B V"]:
        """Row b has `positions[b]` tokens in place `places[b]`; it sees those and itself."""
        device = self._cache.keys.device
        rows, lengths = torch.tensor(places, device=device), torch.tensor(positions, device=device)
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
            q = q.view(len(ids), attention.n_kv_head, -1, attention.d_head)  # heads that share keys pass for tokens
            past = keys[rows, :, :longest], values[rows, :, :longest]  # B G S K
            y = torch.nn.functional.scaled_dot_product_attention(q, *past, attn_mask=mask)
            x = x + attention.out(y.reshape(len(ids), -1))
            x = x + layer.feed_forward(layer.feed_forward_norm(x))
        return self.model.compute_logits(self.model.norm(x))

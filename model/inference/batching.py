"""Continuous batching: requests of any length share each step, join when a slot is free and leave when they are done.

In: prompts with their sampling settings, in any number, at any time. Out: after each step, the new id of every active request. A
prompt is computed when it gets a slot, all that arrived since the last step at once; from then on one pass over the weights
serves all rows, so sixteen requests cost little more than a few. Each request has its own random generator, so its ids do not
depend on the other requests.
Memory: `n_slots` rows of keys and values for the whole window, allocated once (ModelConfig.cache_bytes).
Paper: Yu et al. 2022 (Orca).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from model.inference.decoder import Decoder
from model.inference.prefix import check_prompt, choose_token
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.transformer import KVCache, Transformer, rotate


class BatchEngine(Protocol):
    """Computes logits and knows no requests. A slot is a row of its KV cache."""

    config: ModelConfig

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]: ...

    def decode(self, ids: Sequence[int], slots: Sequence[int], positions: Sequence[int]) -> Float[Tensor, "B V"]: ...


class TokenEvent(NamedTuple):
    """The result of a step for one request: an id, or None when the request is done."""

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
    last: int = field(default=0)  # the newest id, which has not been an input yet
    n_tokens: int = field(default=0)  # in its slot


class Batcher:
    """Call `add` at any time and `step` while `is_busy`. Not thread-safe: a service runs it in a thread of its own.

    model.inference.decoder's kernel computes fp32 weights on a CPU, torch computes others.
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
        self._active: list[_Request | None] = [None] * n_slots
        self._waiting: deque[_Request] = deque()
        self._n_tickets = 0

    @property
    def is_busy(self) -> bool:
        """Whether any request is waiting or active."""
        return bool(self._waiting) or any(self._active)

    def add(self, prompt: Sequence[int], sampling: Sampling, *, stop_ids: Collection[int] = ()) -> int:
        """Add a request. Return its ticket, which events refer to. Raises: ValueError for a prompt that is empty or too long."""
        config = self._engine.config
        check_prompt(config, prompt)
        self._n_tickets += 1
        n_left = min(sampling.max_tokens, config.seq_len - len(prompt))
        generator = torch.Generator(device=self._device).manual_seed(sampling.seed)
        self._waiting.append(_Request(self._n_tickets, prompt, sampling, stop_ids, generator, n_left))
        return self._n_tickets

    def cancel(self, ticket: int) -> None:
        """Drop a waiting or active request. An unknown or finished one is not an error: its client may have disconnected."""
        self._waiting = deque(request for request in self._waiting if request.ticket != ticket)
        self._active = [None if request and request.ticket == ticket else request for request in self._active]

    def step(self) -> list[TokenEvent]:
        """Run one step: one id for each active request, then the first id of requests that get a free slot."""
        events: list[TokenEvent] = []
        rows = [(slot, request) for slot, request in enumerate(self._active) if request]
        if rows:
            ids, positions = [request.last for _, request in rows], [request.n_tokens for _, request in rows]
            for _, request in rows:
                request.n_tokens += 1
            self._choose(rows, self._engine.decode(ids, [slot for slot, _ in rows], positions), events)
        while rows := self._assign_slots():
            logits = self._engine.prefill([slot for slot, _ in rows], [request.prompt for _, request in rows])
            self._choose(rows, logits, events)
        return events

    def _assign_slots(self) -> list[tuple[int, _Request]]:
        """Assign free slots to waiting requests. Return (slot, request) of each."""
        rows: list[tuple[int, _Request]] = []
        for slot, occupant in enumerate(self._active):
            if occupant is None and self._waiting:
                request = self._active[slot] = self._waiting.popleft()
                request.n_tokens = len(request.prompt)
                rows.append((slot, request))
        return rows

    def _choose(self, rows: list[tuple[int, _Request]], logits: Float[Tensor, "B V"], events: list[TokenEvent]) -> None:
        """Choose each row's next id: greedy ones for all rows at once, sampled ones row by row with their own generators."""
        array = logits if isinstance(logits, np.ndarray) else logits.float().cpu().numpy()
        for number, (slot, request) in enumerate(rows):
            n_left = min(request.sampling.max_tokens, self._engine.config.seq_len - len(request.prompt))
            index = choose_token(array[number], request.sampling, n_left - request.n_left)
            self._take(slot, request, index, events)

    def _take(self, slot: int, request: _Request, index: int, events: list[TokenEvent]) -> None:
        request.n_left -= 1
        is_stop = index in request.stop_ids
        if not is_stop:
            request.last = index
            events.append(TokenEvent(request.ticket, index))
        if is_stop or request.n_left == 0:
            self._active[slot] = None
            events.append(TokenEvent(request.ticket, None))


def _draw(request: _Request, logits: Float[Tensor, "1 V"]) -> int:
    return int(sample(logits.float(), request.sampling, request.generator))


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

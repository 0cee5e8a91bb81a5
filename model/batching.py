"""Continuous batching: requests of any length share each step, join when a place is free and leave when they are done.

In: prompts with their sampling, in any number, at any time. Out: after each step the new id of every request at work. A prompt is
computed alone when it gets its place; from then on one pass over the weights serves all rows, which is what makes sixteen
requests cost little more than one. Each request has its own random numbers, so its ids do not depend on who else is there.
Memory: `n_places` rows of keys and values for the whole window, allocated once (ModelConfig.cache_bytes).
Paper: Yu et al. 2022 (Orca).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from model.generate import Sampling, check_prompt, sample
from model.transformer import Cache, Transformer, rotate


class Event(NamedTuple):
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
    last: int = field(default=0)


class Batcher:
    """`add` any time; call `step` while `is_busy`. Not for several threads at once: a service gives it a thread of its own."""

    def __init__(self, model: Transformer, n_places: int = 16) -> None:
        if n_places < 1:
            raise ValueError(f"n_places must be at least 1; found {n_places}; raise it.")
        self.model = model
        weight = model.embedding.weight
        self._cache = Cache(model.config, n_places, model.config.seq_len, dtype=weight.dtype, device=weight.device)
        self._at_work: list[_Request | None] = [None] * n_places
        self._lengths = torch.zeros(n_places, dtype=torch.long, device=weight.device)
        self._waiting: deque[_Request] = deque()
        self._n_tickets = 0

    @property
    def is_busy(self) -> bool:
        return bool(self._waiting) or any(self._at_work)

    def add(self, prompt: Sequence[int], sampling: Sampling, *, stop_ids: Collection[int] = ()) -> int:
        """A ticket that names the request in events. Raises ValueError for a prompt that is empty or fills the window."""
        check_prompt(self.model, prompt)
        self._n_tickets += 1
        n_left = min(sampling.max_new_tokens, self.model.config.seq_len - len(prompt))
        generator = torch.Generator(device=self._lengths.device).manual_seed(sampling.seed)
        self._waiting.append(_Request(self._n_tickets, prompt, sampling, stop_ids, generator, n_left))
        return self._n_tickets

    def cancel(self, ticket: int) -> None:
        """Forgets a request, waiting or at work; an unknown or finished one is no error (its client may just have left)."""
        self._waiting = deque(request for request in self._waiting if request.ticket != ticket)
        self._at_work = [None if request and request.ticket == ticket else request for request in self._at_work]

    @torch.no_grad()
    def step(self) -> list[Event]:
        """One id for each request at work; places that are free are filled first."""
        events: list[Event] = []
        rows = [place for place, request in enumerate(self._at_work) if request]
        if rows:
            events += self._advance(rows)
        for place, request in enumerate(self._at_work):
            while request is None and self._waiting:
                request = self._start(place, self._waiting.popleft(), events)
        return events

    def _start(self, place: int, request: _Request, events: list[Event]) -> _Request | None:
        """Computes the prompt into its place and gives its first id; None if that ended it."""
        model, n_tokens = self.model, len(request.prompt)
        row = self._cache.row_of(place)
        hidden = model(torch.tensor([list(request.prompt)], device=self._lengths.device), row)
        self._lengths[place] = n_tokens
        self._at_work[place] = request
        self._take(place, model.logits(hidden[:, -1]), events)
        return self._at_work[place]

    def _advance(self, rows: list[int]) -> list[Event]:
        requests = [request for place in rows if (request := self._at_work[place])]
        places = torch.tensor(rows, device=self._lengths.device)
        ids = torch.tensor([request.last for request in requests], device=self._lengths.device)
        logits = self.model.logits(decode_step(self.model, ids, self._cache, places, self._lengths[places]))
        self._lengths[places] += 1
        events: list[Event] = []
        is_greedy = all(request.sampling.temperature == 0 for request in requests)
        likeliest = logits.argmax(-1).tolist() if is_greedy else []
        for number, place in enumerate(rows):
            self._take(place, logits[number : number + 1], events, likeliest[number] if is_greedy else None)
        return events

    def _take(self, place: int, logits: Float[Tensor, "1 V"], events: list[Event], index: int | None = None) -> None:
        request = self._at_work[place]
        assert request is not None, f"place {place} is free"
        if index is None:
            index = int(sample(logits.float(), request.sampling, request.generator))
        request.n_left -= 1
        is_stop = index in request.stop_ids
        if not is_stop:
            request.last = index
            events.append(Event(request.ticket, index))
        if is_stop or request.n_left == 0:
            self._at_work[place] = None
            events.append(Event(request.ticket, None))


def decode_step(
    model: Transformer,
    ids: Int[Tensor, " B"],
    cache: Cache,
    places: Int[Tensor, " B"],
    lengths: Int[Tensor, " B"],
) -> Float[Tensor, "B D"]:
    """The hidden state after one more token of each row, whose keys and values go into its place of the cache.

    Row b has `lengths[b]` tokens in place `places[b]`; it sees those and itself.
    """
    longest = int(lengths.max()) + 1
    cos, sin = model.cos[lengths][:, None, None], model.sin[lengths][:, None, None]  # B 1 1 K
    mask = (torch.arange(longest, device=ids.device) <= lengths[:, None])[:, None, None]  # B 1 1 S
    is_whole = len(places) == cache.keys.shape[1]  # then the cache is read where it lies
    x = model.embedding(ids)
    for index, layer in enumerate(model.layers):
        attention = layer.attention
        y = layer.attention_norm(x)
        q = attention.query(y).view(len(ids), attention.n_head, 1, attention.d_head)
        k = attention.key(y).view(len(ids), attention.n_kv_head, 1, attention.d_head)
        q, k = rotate(attention.query_norm(q), cos, sin), rotate(attention.key_norm(k), cos, sin)
        v = attention.value(y).view(len(ids), attention.n_kv_head, attention.d_head)
        keys, values = cache.keys[index], cache.values[index]
        keys[places, :, lengths] = k[:, :, 0]
        values[places, :, lengths] = v
        if is_whole:
            past_keys, past_values = keys[:, :, :longest], values[:, :, :longest]
        else:
            past_keys, past_values = keys[places, :, :longest], values[places, :, :longest]
        q = q.view(len(ids), attention.n_kv_head, -1, attention.d_head)  # heads that share keys pass for tokens
        y = torch.nn.functional.scaled_dot_product_attention(q, past_keys, past_values, attn_mask=mask)
        x = x + attention.out(y.reshape(len(ids), -1))
        x = x + layer.feed_forward(layer.feed_forward_norm(x))
    return model.norm(x)

"""Decoding on a CPU, fast: tokens go through all layers in one call of a compiled kernel, with weights in fp32 or int8.

In: a model and prompts. Out: ids, the same as model.inference.generate's (to the token, in fp32). A decoding step of a small model is a
hundred small operations, each of which costs more to call than to compute: 0.9 ms a token in torch, 0.11 here (2.4 M
parameters, one core of an AMD EPYC with AVX-512), and eight rows at once cost twice what one costs (model.inference.forward). int8: every
row of a matrix has one scale (absmax / 127), vectors and sums stay fp32, so weights take a quarter of the memory and of its
traffic; `rounded` gives the same weights as a Transformer, to measure what that costs in bits per byte.

A row's logits are the same to the bit whoever else is in the batch, however prompts are cut, on any number of threads.
Memory: the weights once more (fp32 is a copy), the places' keys and values. Time: O(weights + past) a token.
Papers: weight-only rounding to nearest with absmax scales, Dettmers et al. 2022 (LLM.int8(), section 2).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from model.inference.forward import LANES, forward, multiply, pack, padded
from model.inference.generate import Prefix
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.transformer import Transformer

CHUNK_TOKENS = 64  # of prompts at once: more would not be faster, and hidden states take memory
MIN_ROWS = 4  # for a thread: fewer cost as much time as four
_COMPILING = Lock()

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Matrix(NamedTuple):
    """One matrix a layer: `values` [layer, block, input, 16] in fp32 or int8 (model.inference.forward), `scales` [layer, output] for int8."""

    values: NDArray[np.float32] | NDArray[np.int8]
    scales: Floats


class Weights(NamedTuple):
    """Everything a step reads. Queries, keys and values are one matrix, so are gate and up."""

    embedding: Floats
    head: Matrix
    qkv: Matrix
    out: Matrix
    gate_up: Matrix
    down: Matrix
    norms: Floats  # [layer, 2, D]: before attention, before the feed-forward part
    qk_norms: Floats  # [layer, 2, K]
    norm: Floats
    cos: Floats
    sin: Floats


class Past(NamedTuple):
    """Keys [place, layer, G, block, K, 16 tokens], values [place, layer, G, time, K]: each is a matrix of model.inference.forward."""

    keys: Floats
    values: Floats

    @classmethod
    def empty(cls, config: ModelConfig, n_slots: int, n_tokens: int) -> Past:
        shape, n_tokens = (n_slots, config.n_layer, config.n_kv_head), padded(n_tokens)
        keys = np.zeros((*shape, n_tokens // LANES, config.d_head, LANES), np.float32)
        return cls(keys, np.zeros((*shape, n_tokens, padded(config.d_head)), np.float32))


class Decoder:
    """Holds its own copy of the weights, and `n_slots` rows of keys and values, which are not for several callers at once. Streams
    are: each has keys and values of its own."""

    def __init__(self, model: Transformer, *, n_slots: int = 1, weights: str = "float32", n_threads: int = 1) -> None:
        if weights not in ("float32", "int8"):
            raise ValueError(f"weights are float32 or int8; found {weights!r}; choose one.")
        self.config = model.config
        self._weights = _collect(model, weights)
        self._past = Past.empty(self.config, n_slots, self.config.seq_len)
        self._n_threads = n_threads
        self._threads = ThreadPoolExecutor(n_threads - 1) if n_threads > 1 else None
        with _COMPILING:  # or read from Numba's cache: here, because two threads at once break its type inference
            self._read_out(
                self._forward(Past.empty(self.config, 1, 1), *np.zeros((3, 1), np.int64)), self._empty_logits(1)
            )

    def prefill(self, places: Sequence[int], prompts: Sequence[Sequence[int]]) -> Float[Tensor, "B V"]:
        """The logits behind each prompt, whose keys and values fill its place from the start. Prompts are shared out to the
        threads."""
        logits = self._empty_logits(len(prompts))
        n_parts = min(self._n_threads, len(prompts))
        longest_first = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))

        def work(part: int) -> None:
            numbers = longest_first[part::n_parts]
            chosen = [places[number] for number in numbers], [prompts[number] for number in numbers]
            logits[numbers] = self._prefill(self._past, *chosen)

        self._share_out(work, n_parts)
        return self._as_tensor(logits)

    def decode(self, ids: Sequence[int], places: Sequence[int], positions: Sequence[int]) -> Float[Tensor, "B V"]:
        """The logits behind one more token of each place. Rows are shared out to the threads."""
        logits = self._empty_logits(len(ids))
        rows = np.array([ids, places, positions])
        n_parts = max(min(self._n_threads, len(ids) // MIN_ROWS), 1)

        def work(part: int) -> None:
            share = slice(len(ids) * part // n_parts, len(ids) * (part + 1) // n_parts)
            self._read_out(self._forward(self._past, *rows[:, share]), logits[share])

        self._share_out(work, n_parts)
        return self._as_tensor(logits)

    def stream(self, prompt: Sequence[int], sampling: Sampling, stop_ids: Collection[int] = ()) -> Iterator[int]:
        """Write one answer (Prefix.stream)."""
        return self.new_prefix().stream(prompt, sampling, stop_ids)

    def new_prefix(self) -> DecoderPrefix:
        """Return an empty cache for one conversation. Many share this decoder, from any number of threads."""
        return DecoderPrefix(self)

    def extend(self, past: Past, ids: Sequence[int], position: int) -> Floats:
        """Return the logits behind these ids, which come after `position` tokens in the one place of `past`."""
        if len(ids) > 1:
            return self._prefill(past, [0], [ids], position)
        logits = self._empty_logits(1)  # a step of decoding, where lists and concatenations would show
        self._read_out(self._forward(past, *np.array([[ids[0]], [0], [position]])), logits)
        return logits

    def _prefill(
        self, past: Past, places: Sequence[int], prompts: Sequence[Sequence[int]], start_at: int = 0
    ) -> Floats:
        """All tokens in a row, cut anywhere: a token's past is always computed before it, or with it."""
        lengths = [len(prompt) for prompt in prompts]
        ids, positions = (
            np.concatenate([np.array(prompt) for prompt in prompts]),
            np.concatenate([*map(np.arange, lengths)]) + start_at,
        )
        rows, ends = np.repeat(np.array(places), lengths), np.cumsum(lengths) - 1
        last = np.empty((len(prompts), self.config.d_model), np.float32)
        for start in range(0, len(ids), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            hidden = self._forward(past, ids[chunk], rows[chunk], positions[chunk])
            is_here = (ends >= start) & (ends < start + CHUNK_TOKENS)
            last[is_here] = hidden[ends[is_here] - start]
        logits = self._empty_logits(len(prompts))
        self._read_out(last, logits)
        return logits

    def _share_out(self, work: Callable[[int], None], n_parts: int) -> None:
        """The calling thread takes a part too, and each one that none has begun by then: on a busy machine they wake up late."""
        others = [(part, self._threads.submit(work, part)) for part in range(1, n_parts)] if self._threads else []
        work(0)
        for part, other in others:
            if other.cancel():
                work(part)
            else:
                other.result()

    def _forward(self, past: Past, ids: Rows, places: Rows, positions: Rows) -> Floats:
        config = self.config
        sizes = (config.n_head, config.n_kv_head, config.d_head)
        return forward(ids, places, positions, sizes, config.norm_eps, self._weights, past)

    def _read_out(self, hidden: Floats, logits: Floats) -> None:
        multiply(hidden, self._weights.head.values, self._weights.head.scales, 0, logits)

    def _empty_logits(self, n_rows: int) -> Floats:
        return np.empty((n_rows, padded(self.config.vocab_size)), np.float32)

    def _as_tensor(self, logits: Floats) -> Float[Tensor, "B V"]:
        return torch.from_numpy(logits[:, : self.config.vocab_size])


class DecoderPrefix(Prefix):
    """By the compiled kernel. Cached = computed anew, to the bit."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder.config)
        self._decoder, self._past = decoder, Past.empty(decoder.config, 1, 0)

    def _grow(self, n_tokens: int) -> None:
        old, self._past = self._past, Past.empty(self.config, 1, n_tokens)
        self._past.keys[:, :, :, : old.keys.shape[3]] = old.keys
        self._past.values[:, :, :, : old.values.shape[3]] = old.values

    def _compute(self, ids: Sequence[int], position: int) -> Float[Tensor, "1 V"]:
        return torch.from_numpy(self._decoder.extend(self._past, ids, position)[:, : self.config.vocab_size])

    def _choose(self, logits: Float[Tensor, "1 V"], sampling: Sampling, generator: torch.Generator) -> int:
        if sampling.temperature == 0:
            return int(logits.numpy().argmax())  # a fifth of what torch's costs
        return super()._choose(logits, sampling, generator)


def rounded(model: Transformer) -> Transformer:
    """A copy whose matrices have the values that int8 keeps, to measure its loss with the same tools as any model's."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in dict.fromkeys(other.parameters()):
            if parameter.ndim == 2 and parameter is not other.embedding.weight:
                values, scales = _quantize(parameter.detach().float().numpy())
                parameter.copy_(torch.from_numpy(values * scales[:, None]))
        if model.config.is_tied:  # the table that ids look up stays fp32, the projection does not
            values, scales = _quantize(model.embedding.weight.detach().float().numpy())
            other.head.weight = torch.nn.Parameter(torch.from_numpy(values * scales[:, None]), requires_grad=False)
    return other


def _collect(model: Transformer, kind: str) -> Weights:
    def array(tensor: torch.Tensor) -> Floats:
        return tensor.detach().float().cpu().contiguous().numpy()

    def matrix(rows: list[list[torch.Tensor]]) -> Matrix:
        layers = [np.concatenate([array(part) for part in parts]) for parts in rows]
        n_out = len(layers[0])
        scales = np.zeros((len(layers), padded(n_out)), np.float32)
        if kind == "float32":
            return Matrix(np.stack([pack(layer) for layer in layers]), scales)
        quantized = [_quantize(layer) for layer in layers]
        scales[:, :n_out] = [row_scales for _, row_scales in quantized]
        return Matrix(np.stack([pack(values) for values, _ in quantized]), scales)

    layers = model.layers
    return Weights(
        embedding=array(model.embedding.weight).copy(),
        head=matrix([[model.head.weight]]),
        qkv=matrix([[a.query.weight, a.key.weight, a.value.weight] for a in (layer.attention for layer in layers)]),
        out=matrix([[layer.attention.out.weight] for layer in layers]),
        gate_up=matrix([[layer.feed_forward.gate.weight, layer.feed_forward.up.weight] for layer in layers]),
        down=matrix([[layer.feed_forward.down.weight] for layer in layers]),
        norms=np.stack(
            [[array(n.weight) for n in (layer.attention_norm, layer.feed_forward_norm)] for layer in layers]
        ),
        qk_norms=np.stack(
            [[array(n.weight) for n in (a.query_norm, a.key_norm)] for a in (x.attention for x in layers)]
        ),
        norm=array(model.norm.weight).copy(),
        cos=array(model.cos).copy(),
        sin=array(model.sin).copy(),
    )


def _quantize(values: Floats) -> tuple[NDArray[np.int8], Floats]:
    """To the nearest of 255 levels a row."""
    scales = np.maximum(np.abs(values).max(axis=1), np.float32(1e-12)) / np.float32(127)
    return np.rint(values / scales[:, None]).astype(np.int8), scales.astype(np.float32)

"""Decoding on a CPU, fast: tokens go through all layers in one call of a compiled kernel, with weights in fp32 or int8.

In: a model and prompts. Out: ids, the same as model.generate's (to the token, in fp32). A decoding step of a small model is a
hundred small operations, each of which costs more to call than to compute: 2.1 ms a token in torch, 0.15 here (2.4 M
parameters, one core of an AMD EPYC with AVX-512), and several rows at once share each load of a weight. int8: every row
of a matrix has one scale (absmax / 127), vectors and sums stay fp32, so weights take a quarter of the memory and of its traffic;
`rounded` gives the same weights as a Transformer, to measure what that costs in bits per byte.
Memory: the weights once more (fp32 is a copy), the places' keys and values. Time: O(weights + past) a token.
Papers: weight-only rounding to nearest with absmax scales, Dettmers et al. 2022 (LLM.int8(), section 2).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from model.generate import Sampling, check_prompt, sample
from model.kernels import LOWEST, exp
from model.transformer import Transformer

PREFILL_TOKENS = 64  # of a prompt at once: more would not be faster, and hidden states take memory
MIN_ROWS = 4  # for a thread: the kernel takes four at once

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Matrix(NamedTuple):
    """One matrix a layer, stacked: `values` [layer, row, column] in fp32 or int8, `scales` [layer, row]."""

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


class Decoder:
    """Holds its own copy of the weights, and `n_places` rows of keys and values. Not for several threads at once."""

    def __init__(self, model: Transformer, *, n_places: int = 1, weights: str = "float32", n_threads: int = 1) -> None:
        if weights not in ("float32", "int8"):
            raise ValueError(f"weights are float32 or int8; found {weights!r}; choose one.")
        config = self.config = model.config
        self._weights = _collect(model, weights)
        shape = (n_places, config.n_layer, config.n_kv_head, config.seq_len, config.d_head)
        self._keys, self._values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        self._n_threads = n_threads
        self._threads = ThreadPoolExecutor(n_threads) if n_threads > 1 else None

    def prefill(self, place: int, prompt: Sequence[int]) -> Float[Tensor, "1 V"]:
        """The logits behind a prompt, whose keys and values fill the place from its start."""
        hidden = np.empty((0, self.config.d_model), np.float32)
        for start in range(0, len(prompt), PREFILL_TOKENS):
            ids = np.array(prompt[start : start + PREFILL_TOKENS])
            hidden = self._forward(ids, np.full(len(ids), place), np.arange(start, start + len(ids)))
        return self._logits(hidden[-1:])

    def decode(self, ids: Sequence[int], places: Sequence[int], positions: Sequence[int]) -> Float[Tensor, "B V"]:
        """The logits behind one more token of each place. Rows are shared out to the threads."""
        rows = [np.array(values) for values in (ids, places, positions)]
        n_parts = min(self._n_threads, len(ids) // MIN_ROWS)
        if self._threads is None or n_parts < 2:
            return self._logits(self._forward(*rows))
        parts = zip(*(np.array_split(values, n_parts) for values in rows), strict=True)
        work = [self._threads.submit(lambda part: self._logits(self._forward(*part)), part) for part in parts]
        # not torch.cat: torch's own threads would spin behind it, on the cores of these
        return torch.from_numpy(np.concatenate([part.result().numpy() for part in work]))

    def stream(self, prompt: Sequence[int], sampling: Sampling, *, stop_ids: Collection[int] = ()) -> Iterator[int]:
        """Ends at a stop id, after max_new_tokens, or when the window is full. The same seed gives the same ids."""
        check_prompt(self.config, prompt)
        generator = torch.Generator().manual_seed(sampling.seed)
        logits = self.prefill(0, prompt)
        for position in range(len(prompt), min(len(prompt) + sampling.max_new_tokens, self.config.seq_len)):
            index = int(sample(logits, sampling, generator))
            if index in stop_ids:
                return
            yield index
            logits = self.decode([index], [0], [position])

    def _forward(self, ids: Rows, places: Rows, positions: Rows) -> Floats:
        config = self.config
        sizes = (config.n_head, config.n_kv_head, config.d_head)
        return _forward(ids, places, positions, sizes, config.norm_eps, self._weights, self._keys, self._values)

    def _logits(self, hidden: Floats) -> Float[Tensor, "B V"]:
        out = np.empty((len(hidden), self.config.vocab_size), np.float32)
        _multiply(self._weights.head.values[0], self._weights.head.scales[0], hidden, out)
        return torch.from_numpy(out)


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
        values = np.stack([np.concatenate([array(part) for part in parts]) for parts in rows])
        if kind == "float32":
            return Matrix(values, np.ones(values.shape[:2], np.float32))
        quantized = [_quantize(layer) for layer in values]
        return Matrix(np.stack([q for q, _ in quantized]), np.stack([scales for _, scales in quantized]))

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


@numba.njit(fastmath=True, nogil=True, cache=True)
def _multiply(matrix, scales, x, y):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    """y[r] = matrix @ x[r] * scales, four rows of x and four of the matrix at once: each number loaded serves four times."""
    n_rows, n_out, n_in = len(x), len(matrix), x.shape[1]
    zero = np.float32(0)
    r = 0
    while r + 4 <= n_rows and n_out % 4 == 0:
        for o in range(0, n_out, 4):
            a00, a01, a02, a03, a10, a11, a12, a13 = zero, zero, zero, zero, zero, zero, zero, zero
            a20, a21, a22, a23, a30, a31, a32, a33 = zero, zero, zero, zero, zero, zero, zero, zero
            for k in range(n_in):
                w0, w1 = np.float32(matrix[o, k]), np.float32(matrix[o + 1, k])
                w2, w3 = np.float32(matrix[o + 2, k]), np.float32(matrix[o + 3, k])
                x0, x1, x2, x3 = x[r, k], x[r + 1, k], x[r + 2, k], x[r + 3, k]
                a00, a01, a02, a03 = a00 + w0 * x0, a01 + w0 * x1, a02 + w0 * x2, a03 + w0 * x3
                a10, a11, a12, a13 = a10 + w1 * x0, a11 + w1 * x1, a12 + w1 * x2, a13 + w1 * x3
                a20, a21, a22, a23 = a20 + w2 * x0, a21 + w2 * x1, a22 + w2 * x2, a23 + w2 * x3
                a30, a31, a32, a33 = a30 + w3 * x0, a31 + w3 * x1, a32 + w3 * x2, a33 + w3 * x3
            s0, s1, s2, s3 = scales[o], scales[o + 1], scales[o + 2], scales[o + 3]
            y[r, o], y[r, o + 1], y[r, o + 2], y[r, o + 3] = a00 * s0, a10 * s1, a20 * s2, a30 * s3
            y[r + 1, o], y[r + 1, o + 1], y[r + 1, o + 2], y[r + 1, o + 3] = a01 * s0, a11 * s1, a21 * s2, a31 * s3
            y[r + 2, o], y[r + 2, o + 1], y[r + 2, o + 2], y[r + 2, o + 3] = a02 * s0, a12 * s1, a22 * s2, a32 * s3
            y[r + 3, o], y[r + 3, o + 1], y[r + 3, o + 2], y[r + 3, o + 3] = a03 * s0, a13 * s1, a23 * s2, a33 * s3
        r += 4
    for row in range(r, n_rows):
        for o in range(n_out):
            total = zero
            for k in range(n_in):
                total += np.float32(matrix[o, k]) * x[row, k]
            y[row, o] = total * scales[o]


@numba.njit(fastmath=True, nogil=True)
def _normalise(x, weight, eps, y):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    total = np.float32(0)
    for i in range(len(x)):
        total += x[i] * x[i]
    scale = np.float32(1) / np.sqrt(total / np.float32(len(x)) + np.float32(eps))
    for i in range(len(x)):
        y[i] = x[i] * scale * weight[i]


@numba.njit(fastmath=True, nogil=True)
def _turn(x, weight, eps, cos, sin):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    """Norm of a head, then its rotary position, in place."""
    _normalise(x, weight, eps, x)
    half = len(x) // 2
    for i in range(half):
        first, second = x[i], x[i + half]
        x[i] = first * cos[i] - second * sin[i]
        x[i + half] = second * cos[i + half] + first * sin[i + half]


@numba.njit(fastmath=True, nogil=True)
def _attend(q, keys, values, n_past, scores, y):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    scale = np.float32(1) / np.sqrt(np.float32(len(q)))
    largest = np.float32(-np.inf)
    for t in range(n_past):
        total = np.float32(0)
        for i in range(len(q)):
            total += q[i] * keys[t, i]
        scores[t] = total * scale
        largest = max(largest, scores[t])
    total = np.float32(0)
    for t in range(n_past):
        scores[t] = exp(scores[t] - largest)
        total += scores[t]
    y[:] = np.float32(0)
    for t in range(n_past):
        share = scores[t] / total
        for i in range(len(q)):
            y[i] += share * values[t, i]


@numba.njit(fastmath=True, nogil=True, cache=True)
def _forward(ids, places, positions, sizes, eps, w, keys, values):  # type: ignore[no-untyped-def]  # pragma: no cover (compiled)
    """Tokens of any places through all layers, their keys and values into the cache; the normed hidden states."""
    n_head, n_kv_head, d_head = sizes
    n, d_model, d_ff = len(ids), w.norms.shape[2], w.down.values.shape[2]
    x, y = np.empty((n, d_model), np.float32), np.empty((n, d_model), np.float32)
    qkv, heads = np.empty((n, w.qkv.values.shape[1]), np.float32), np.empty((n, n_head * d_head), np.float32)
    wide, gated = np.empty((n, 2 * d_ff), np.float32), np.empty((n, d_ff), np.float32)
    scores = np.empty(positions.max() + 1, np.float32)
    for r in range(n):
        x[r] = w.embedding[ids[r]]
    for layer in range(len(w.norms)):
        for r in range(n):
            _normalise(x[r], w.norms[layer, 0], eps, y[r])
        _multiply(w.qkv.values[layer], w.qkv.scales[layer], y, qkv)
        for r in range(n):
            place, position = places[r], positions[r]
            for head in range(n_head + n_kv_head):
                is_key = 1 if head >= n_head else 0
                part = qkv[r, head * d_head : (head + 1) * d_head]
                _turn(part, w.qk_norms[layer, is_key], eps, w.cos[position], w.sin[position])
            for group in range(n_kv_head):
                at = (n_head + group) * d_head
                keys[place, layer, group, position] = qkv[r, at : at + d_head]
                at += n_kv_head * d_head
                values[place, layer, group, position] = qkv[r, at : at + d_head]
        for r in range(n):
            for head in range(n_head):
                group, part = head * n_kv_head // n_head, slice(head * d_head, (head + 1) * d_head)
                past_keys, past_values = keys[places[r], layer, group], values[places[r], layer, group]
                _attend(qkv[r, part], past_keys, past_values, positions[r] + 1, scores, heads[r, part])
        _multiply(w.out.values[layer], w.out.scales[layer], heads, y)
        x += y
        for r in range(n):
            _normalise(x[r], w.norms[layer, 1], eps, y[r])
        _multiply(w.gate_up.values[layer], w.gate_up.scales[layer], y, wide)
        for r in range(n):
            for i in range(d_ff):
                gated[r, i] = wide[r, i] / (np.float32(1) + exp(min(-wide[r, i], -LOWEST))) * wide[r, d_ff + i]
        _multiply(w.down.values[layer], w.down.scales[layer], gated, y)
        x += y
    for r in range(n):
        _normalise(x[r], w.norm, eps, y[r])
    return y

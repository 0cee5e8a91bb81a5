"""Decode fast on a CPU: one call of a compiled kernel passes tokens through all layers, with weights in 32, 16, 8 or 4 bits.

In: a model and prompts. Out: the same ids as model.inference.generate's (to the token, in fp32). A decoding step of a small model
is a hundred small operations, each of which costs more to call than to compute: 0.9 ms per token in torch, 0.11 here (2.4 M
parameters, one core of an AMD EPYC with AVX-512), and eight rows at once cost twice as much as one (model.inference.forward).
Only weights are rounded (bf16, or the groups of model.network.quantize), vectors and sums stay fp32: int8 takes 27 % of the memory
and of the memory traffic, int4 19 % (docs/quantization.md). `round_weights` returns the same weights as a Transformer, to measure
the loss in bits per byte.

A row's logits are the same to the bit whatever other rows the batch has, however prompts are chunked, with any number of threads.
Memory: a copy of the weights, and the slots' keys and values. Time: O(weights + past) per token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.inference.forward import LANES, forward, multiply, pack, round_up_to_lanes
from model.inference.prefix import OwnPrefix, choose_token
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.model_files import ModelArrays, make_rope_arrays, take_arrays
from model.network.quantize import GROUP, check_weights, choose_bits, quantize

if TYPE_CHECKING:
    from model.network.transformer import Transformer

CHUNK_TOKENS = 64  # of a prompt per call: more would not be faster, and hidden states take memory
MIN_ROWS = 4  # per thread: fewer take as much time as four
_COMPILING = Lock()

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Matrix(NamedTuple):
    """One matrix per layer: `values` [layer, block, input, 16], and `scales` [layer, block, group, 16] of integers, the bits of
    fp16 (model.inference.forward)."""

    values: NDArray[Any]
    scales: NDArray[np.uint16]


class Weights(NamedTuple):
    """All weights of a model. The projections to queries, keys and values are one matrix; so are gate and up."""

    embedding: Matrix
    head: Matrix  # the same if they are tied
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
    """The KV cache: keys [slot, layer, G, block, K, 16 tokens], values [slot, layer, G, time, K], laid out as matrices of
    model.inference.forward."""

    keys: Floats
    values: Floats

    @classmethod
    def empty(cls, config: ModelConfig, n_slots: int, n_tokens: int) -> Past:
        """Allocate a cache of zeros."""
        shape, n_tokens = (n_slots, config.n_layer, config.n_kv_head), round_up_to_lanes(n_tokens)
        keys = np.zeros((*shape, n_tokens // LANES, config.d_head, LANES), np.float32)
        return cls(keys, np.zeros((*shape, n_tokens, round_up_to_lanes(config.d_head)), np.float32))


class Decoder:
    """Has its own copy of the weights and `n_slots` slots of keys and values. The slots are not thread-safe; prefixes and streams
    are, because each has keys and values of its own."""

    def __init__(
        self, model: Transformer | ModelArrays, *, n_slots: int = 1, weights: str = "float32", n_threads: int = 1
    ) -> None:
        check_weights(weights, model.config)
        self.config = model.config
        self._weights = _collect_weights(model if isinstance(model, ModelArrays) else take_arrays(model), weights)
        self._past = Past.empty(self.config, n_slots, self.config.seq_len)
        self._n_threads = n_threads
        self._threads = ThreadPoolExecutor(n_threads - 1) if n_threads > 1 else None
        with (
            _COMPILING
        ):  # compile, or load from Numba's cache: under a lock, because two threads at once break its type inference
            hidden = self._forward(Past.empty(self.config, 1, 1), *np.zeros((3, 1), np.int64))
            self._compute_logits(hidden, logits := self._empty_logits(1))
            choose_token(np.ascontiguousarray(logits[0]), Sampling(temperature=1.0), 0)

    def share_tables(self, other: Decoder) -> None:
        """Use another decoder's embedding, head and positions instead of equal ones: an adapter leaves those of its base as they
        are."""
        tables = {name: getattr(other._weights, name) for name in ("embedding", "head", "norm", "cos", "sin")}
        self._weights = self._weights._replace(**tables)

    @property
    def n_parallel(self) -> int:
        """How many prompts are computed at once as fast as one."""
        return self._n_threads

    @property
    def weight_bytes(self) -> int:
        """The memory of all weights."""
        fields = [part if isinstance(part, Matrix) else [part] for part in self._weights]
        arrays = {id(array): array for field in fields for array in field}  # a tied head is the embedding
        return sum(array.nbytes for array in arrays.values())

    def prefill(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> Floats:
        """Compute each prompt into its slot, from the slot's start. Return the logits after each. Prompts are divided among the
        threads."""
        logits = self._empty_logits(len(prompts))
        n_parts = min(self._n_threads, len(prompts))
        longest_first = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))

        def work(part: int) -> None:
            numbers = longest_first[part::n_parts]
            chosen = [slots[number] for number in numbers], [prompts[number] for number in numbers]
            logits[numbers] = self._prefill(self._past, *chosen)

        self._run_parts(work, n_parts)
        return self._drop_padding(logits)

    def decode(self, ids: Sequence[int], slots: Sequence[int], positions: Sequence[int]) -> Floats:
        """Return the logits after one more id per slot. Rows are divided among the threads."""
        logits = self._empty_logits(len(ids))
        rows = np.array([ids, slots, positions])
        n_parts = max(min(self._n_threads, len(ids) // MIN_ROWS), 1)

        def work(part: int) -> None:
            share = slice(len(ids) * part // n_parts, len(ids) * (part + 1) // n_parts)
            self._compute_logits(self._forward(self._past, *rows[:, share]), logits[share])

        self._run_parts(work, n_parts)
        return self._drop_padding(logits)

    def compute(self, ids: Rows, slots: Rows, positions: Rows, wanted: Rows) -> Floats:
        """Compute tokens of any slots, and return the logits after those with the numbers `wanted`, in ascending order. The
        tokens of a slot are neighbors and ascend. Slots are divided among the threads."""
        logits = self._empty_logits(len(wanted))
        if self._n_threads == 1 or len(slots) < 2 * MIN_ROWS:
            hidden = self._forward(self._past, ids, slots, positions)
            self._compute_logits(hidden if len(wanted) == len(ids) else hidden[wanted], logits)
            return self._drop_padding(logits)
        cuts = self._cut_between_slots(slots)
        bounds = np.searchsorted(wanted, cuts)

        def work(part: int) -> None:
            share, chosen = slice(cuts[part], cuts[part + 1]), slice(bounds[part], bounds[part + 1])
            hidden = self._forward(self._past, ids[share], slots[share], positions[share])
            if chosen.stop > chosen.start:
                self._compute_logits(hidden[wanted[chosen] - cuts[part]], logits[chosen])

        self._run_parts(work, len(cuts) - 1)
        return self._drop_padding(logits)

    def _cut_between_slots(self, slots: Rows) -> list[int]:
        """Return where to cut rows into shares of similar size, never inside of a slot."""
        n_parts = max(min(self._n_threads, len(slots) // MIN_ROWS), 1)
        starts = np.flatnonzero(np.diff(slots)) + 1 if n_parts > 1 else np.empty(0, np.int64)
        cuts = {0, len(slots)}
        for part in range(1, n_parts):
            nearest = np.abs(starts - len(slots) * part / n_parts)
            cuts |= {int(starts[nearest.argmin()])} if len(starts) else set()
        return sorted(cuts)

    def copy_tokens(self, source: int, target: int, n_tokens: int) -> None:
        """Copy the keys and values of the first tokens of a slot into another one."""
        n_blocks = round_up_to_lanes(n_tokens) // LANES
        self._past.keys[target, :, :, :n_blocks] = self._past.keys[source, :, :, :n_blocks]
        self._past.values[target, :, :, :n_tokens] = self._past.values[source, :, :, :n_tokens]

    def make_slots(self, n_slots: int, n_threads: int = 1) -> Decoder:
        """Return a decoder with these weights and slots of its own."""
        other = copy(self)
        other._past, other._n_threads = Past.empty(self.config, n_slots, self.config.seq_len), n_threads
        other._threads = ThreadPoolExecutor(n_threads - 1) if n_threads > 1 else None
        return other

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()

    def stream(self, prompt: Sequence[int], sampling: Sampling, stop_ids: Collection[int] = ()) -> Iterator[int]:
        """Generate one answer (Prefix.stream)."""
        return self.new_prefix().stream(prompt, sampling, stop_ids)

    def new_prefix(self) -> DecoderPrefix:
        """Return an empty cache for one conversation. Many share this decoder, in any number of threads."""
        return DecoderPrefix(self)

    def extend(self, past: Past, ids: Sequence[int], position: int) -> Floats:
        """Compute `ids` after `position` tokens in the only slot of `past`. Return the logits after the last id."""
        if len(ids) > 1:
            return self._prefill(past, [0], [ids], position)
        logits = self._empty_logits(
            1
        )  # a decoding step, in which lists and concatenations would take a measurable time
        self._compute_logits(self._forward(past, *np.array([[ids[0]], [0], [position]])), logits)
        return logits

    def extend_all(self, past: Past, ids: Sequence[int], position: int) -> Floats:
        """Compute `ids` after `position` tokens in the only slot of `past`. Return the logits after each."""
        logits = self._empty_logits(len(ids))
        rows = np.array(ids), np.zeros(len(ids), np.int64), np.arange(position, position + len(ids))
        for start in range(0, len(ids), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            self._compute_logits(self._forward(past, *(row[chunk] for row in rows)), logits[chunk])
        return logits

    def _prefill(self, past: Past, slots: Sequence[int], prompts: Sequence[Sequence[int]], start_at: int = 0) -> Floats:
        """Compute all prompts as one sequence of rows, in chunks: a token's past is computed before it or in its chunk."""
        lengths = [len(prompt) for prompt in prompts]
        ids, positions = (
            np.concatenate([np.array(prompt) for prompt in prompts]),
            np.concatenate([*map(np.arange, lengths)]) + start_at,
        )
        rows, ends = np.repeat(np.array(slots), lengths), np.cumsum(lengths) - 1
        last = np.empty((len(prompts), self.config.d_model), np.float32)
        for start in range(0, len(ids), CHUNK_TOKENS):
            chunk = slice(start, start + CHUNK_TOKENS)
            hidden = self._forward(past, ids[chunk], rows[chunk], positions[chunk])
            is_here = (ends >= start) & (ends < start + CHUNK_TOKENS)
            last[is_here] = hidden[ends[is_here] - start]
        logits = self._empty_logits(len(prompts))
        self._compute_logits(last, logits)
        return logits

    def _run_parts(self, work: Callable[[int], None], n_parts: int) -> None:
        """Run the parts in all threads. The calling thread takes one too, and then every part that has not started: on a busy
        machine threads wake up late."""
        others = [(part, self._threads.submit(work, part)) for part in range(1, n_parts)] if self._threads else []
        work(0)
        for part, other in others:
            if other.cancel():
                work(part)
            else:
                other.result()

    def _forward(self, past: Past, ids: Rows, slots: Rows, positions: Rows) -> Floats:
        config = self.config
        sizes = (config.n_head, config.n_kv_head, config.d_head)
        return forward(ids, slots, positions, sizes, config.norm_eps, self._weights, past)

    def _compute_logits(self, hidden: Floats, logits: Floats) -> None:
        multiply(hidden, self._weights.head.values, self._weights.head.scales, 0, logits)

    def _empty_logits(self, n_rows: int) -> Floats:
        return np.empty((n_rows, round_up_to_lanes(self.config.vocab_size)), np.float32)

    def _drop_padding(self, logits: Floats) -> Floats:
        return logits[:, : self.config.vocab_size]


class DecoderPrefix(OwnPrefix):
    """A prefix computed by the compiled kernel. Cached equals recomputed, to the bit."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder.config)
        self._decoder, self._past = decoder, Past.empty(decoder.config, 1, 0)

    def _grow(self, n_tokens: int) -> None:
        old, self._past = self._past, Past.empty(self.config, 1, n_tokens)
        self._past.keys[:, :, :, : old.keys.shape[3]] = old.keys
        self._past.values[:, :, :, : old.values.shape[3]] = old.values

    def _compute(self, ids: Sequence[int], position: int) -> Floats:
        return self._decoder.extend(self._past, ids, position)[:, : self.config.vocab_size]

    def _compute_all(self, ids: Sequence[int], position: int) -> Floats:
        return self._decoder.extend_all(self._past, ids, position)[:, : self.config.vocab_size]


def _collect_weights(model: ModelArrays, kind: str) -> Weights:
    """Copy and pack a model's weights."""
    config, tensors = model

    def list_layers(*names: str) -> list[list[Floats]]:
        return [[tensors[f"layers.{layer}.{name}.weight"] for name in names] for layer in range(config.n_layer)]

    attention, feed_forward = "attention", "feed_forward"
    embedding = _pack_matrix("embedding.weight", [[tensors["embedding.weight"]]], kind)
    cos, sin = make_rope_arrays(config)
    return Weights(
        embedding=embedding,
        head=embedding if config.is_tied else _pack_matrix("head.weight", [[tensors["head.weight"]]], kind),
        qkv=_pack_matrix("qkv", list_layers(*(f"{attention}.{name}" for name in ("query", "key", "value"))), kind),
        out=_pack_matrix("out", list_layers(f"{attention}.out"), kind),
        gate_up=_pack_matrix("gate_up", list_layers(f"{feed_forward}.gate", f"{feed_forward}.up"), kind),
        down=_pack_matrix("down", list_layers(f"{feed_forward}.down"), kind),
        norms=_stack(list_layers("attention_norm", "feed_forward_norm")),
        qk_norms=_stack(list_layers(f"{attention}.query_norm", f"{attention}.key_norm")),
        norm=_stack([[tensors["norm.weight"]]])[0, 0],
        cos=cos,
        sin=sin,
    )


def _stack(layers: list[list[Floats]]) -> Floats:
    """Return vectors as one array [layer, part, width], which is a copy."""
    return np.array(layers, np.float32)


def _pack_matrix(name: str, rows: list[list[Floats]], kind: str) -> Matrix:
    """Return one matrix per layer, each of the parts of a layer one below the other."""
    layers = [pack_layer(name, np.concatenate(parts).astype(np.float32, copy=False), kind) for parts in rows]
    return Matrix(*(np.stack(arrays) for arrays in zip(*layers, strict=True)))


def pack_layer(name: str, matrix: Floats, kind: str) -> tuple[NDArray[Any], NDArray[np.uint16]]:
    """Return a matrix in a format of weights, and its scales, both packed as model.inference.forward reads them."""
    if kind in ("float32", "bfloat16"):
        none = np.zeros((round_up_to_lanes(len(matrix)) // LANES, 0, LANES), np.uint16)
        if kind == "float32":
            return pack(matrix), none
        return pack(round_to_bfloat16(matrix)), none
    quantized = quantize(matrix, choose_bits(name, kind))
    values = quantized.integers
    if quantized.bits == 4:
        halves = (values + np.int8(8)).view(np.uint8).reshape(len(matrix), -1, 2, GROUP // 2)
        values = (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(len(matrix), -1)
    return pack(values), pack(quantized.scales.view(np.uint16))


def round_to_bfloat16(matrix: Floats) -> NDArray[np.uint16]:
    """Return the bits of the nearest bf16 values; halves go to the even one."""
    bits = np.ascontiguousarray(matrix).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)

"""Compute a decoder's layers in one compiled call, built on products of a few rows with packed weights.

In: ids with their slots and positions; weights in fp32 or int8, packed in blocks of 16 outputs ([block, input, 16]); the KV cache,
laid out as such matrices too. Out: hidden states; new keys and values in the cache. The inner loop of a product consists of LLVM
vectors: a tile of 8 rows × 32 outputs stays in registers, each loaded vector of weights serves every row and each number of a row
every vector. One core of an AMD EPYC with AVX-512 reaches 44 GFLOP/s with one row (memory-bound), 158 with 4, 224 with 8, 240
with more. Memory: the hidden states of the rows. Time: O(weights + past) for up to four rows.

Each output is one chain of multiply-adds over the inputs in their order, whatever tile computes it. So the other rows of a batch,
their number and their order change no bit of a row's result.

All in one file: Numba's disk cache checks the modification time of the outermost function's file only, not of its callees'.
"""

# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false, reportGeneralTypeIssues=false, reportPrivateImportUsage=false, reportCallIssue=false
# (Numba infers the types of what it compiles from the arguments)
from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from model.machine.kernels import LOWEST, exp

LANES = 16  # fp32 values in an AVX-512 register; CPUs with narrower registers use two or four for one vector
_FLOAT, _BYTE, _SHORT, _INDEX = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}  # "numpy": no branch at each division


def round_up_to_lanes(n: int) -> int:
    """Return the next multiple of LANES."""
    return -(-n // LANES) * LANES


def pack(matrix: NDArray[Any]) -> NDArray[Any]:
    """Pack a matrix [output, input] to [block, input, 16]; zeros fill the last block."""
    n_out, n_in = matrix.shape
    blocks = np.zeros((round_up_to_lanes(n_out), n_in), matrix.dtype)
    blocks[:n_out] = matrix
    return np.ascontiguousarray(blocks.reshape(-1, LANES, n_in).transpose(0, 2, 1))


@intrinsic
def _at(typing_context, source, offset):
    """Return the address of element `offset` of a flattened array, or of the element `offset` after an address."""
    is_array = isinstance(source, types.Array)
    result = types.CPointer(source.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(source)(context, builder, arguments[0]).data if is_array else arguments[0]
        return builder.gep(start, [arguments[1]])

    return result(source, types.int64), generate


at: Any = _at  # untyped, because Numba passes the first parameter


def _make_tile(n_rows: int, n_blocks: int) -> Any:
    """Return an intrinsic that multiplies at most `n_rows` rows by exactly `n_blocks` blocks, given addresses. Rows after the
    last one repeat it. int8 weights are scaled at the end, fp32 weights are not."""

    @intrinsic
    def tile(typing_context, x, x_stride, rows, w, block_stride, w_stride, n_in, scales, y, y_stride):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            is_wide = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
            height, width = (n_rows, n_blocks) if is_wide or n_rows == 1 else (4, 1)  # what fits into the registers
            for row in range(0, n_rows, height):
                for block in range(0, n_blocks, width):
                    _emit_tile(builder, arguments, range(row, row + height), range(block, block + width))
            return context.get_dummy_value()

        size = types.int64
        return types.void(x, size, size, w, size, size, size, scales, y, size), generate

    return tile


def _emit_tile(builder: Any, arguments: Any, rows: range, blocks: range) -> None:
    x, x_stride, n_rows, w, block_stride, w_stride, n_in, scales, y, y_stride = arguments
    last = builder.sub(n_rows, _INDEX(1))
    clamped = [builder.select(builder.icmp_signed("<", _INDEX(row), last), _INDEX(row), last) for row in rows]
    sources = [builder.gep(x, [builder.mul(row, x_stride)]) for row in clamped]
    weights = [builder.gep(w, [builder.mul(_INDEX(block), block_stride)]) for block in blocks]
    sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in blocks] for _ in rows]  # LLVM promotes them to registers
    for line in sums:
        for total in line:
            builder.store(ir.Constant(_VECTOR, [0.0] * LANES), total)
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    add_product = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    with cgutils.for_range(builder, n_in) as loop:
        step = builder.mul(loop.index, w_stride)
        vectors = [_emit_load(builder, builder.gep(weight, [step])) for weight in weights]
        for source, line in zip(sources, sums, strict=True):
            value = _emit_broadcast(builder, builder.load(builder.gep(source, [loop.index])))
            for vector, total in zip(vectors, line, strict=True):
                builder.store(builder.call(add_product, [value, vector, builder.load(total)]), total)
    for row, line in zip(clamped, sums, strict=True):
        for block, total in zip(blocks, line, strict=True):
            column, value = _INDEX(block * LANES), builder.load(total)
            if w.type.pointee == _BYTE:
                value = builder.fmul(value, _emit_load(builder, builder.gep(scales, [column])))
            target = builder.gep(y, [builder.add(builder.mul(row, y_stride), column)])
            builder.store(value, builder.bitcast(target, _VECTOR.as_pointer()), align=4)


def _emit_load(builder: Any, address: Any) -> Any:
    kind = ir.VectorType(address.type.pointee, LANES)
    is_byte = address.type.pointee == _BYTE
    loaded = builder.load(builder.bitcast(address, kind.as_pointer()), align=1 if is_byte else 4)
    return builder.sitofp(loaded, _VECTOR) if is_byte else loaded


def _emit_broadcast(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _SHORT(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_SHORT, LANES), [0] * LANES))


_tile_8x2, _tile_8x1 = _make_tile(8, 2), _make_tile(8, 1)
_tile_4x4, _tile_4x1 = _make_tile(4, 4), _make_tile(4, 1)
_tile_1x4, _tile_1x1 = _make_tile(1, 4), _make_tile(1, 1)


@numba.njit(**OPTIONS)
def product(
    x, x_stride, n_rows, w, block_stride, w_stride, n_in, n_blocks, scales, y, y_stride
):  # pragma: no cover (compiled)
    """Compute y = x w, given addresses, four blocks at a time, which stay in the L1 cache for all rows."""
    b = 0
    while b < n_blocks:
        is_four = b + 4 <= n_blocks
        u, s = at(w, b * block_stride), at(scales, b * LANES)
        r = 0
        while r < n_rows:
            p, q, left = at(x, r * x_stride), at(y, r * y_stride + b * LANES), n_rows - r
            if left > 4:
                if is_four:
                    _tile_8x2(p, x_stride, left, u, block_stride, w_stride, n_in, s, q, y_stride)
                    u_2, s_2, q_2 = at(u, 2 * block_stride), at(s, 2 * LANES), at(q, 2 * LANES)
                    _tile_8x2(p, x_stride, left, u_2, block_stride, w_stride, n_in, s_2, q_2, y_stride)
                else:
                    _tile_8x1(p, x_stride, left, u, block_stride, w_stride, n_in, s, q, y_stride)
                r += 8
            elif left > 1:
                if is_four:
                    _tile_4x4(p, x_stride, left, u, block_stride, w_stride, n_in, s, q, y_stride)
                else:
                    _tile_4x1(p, x_stride, left, u, block_stride, w_stride, n_in, s, q, y_stride)
                r += 4
            else:
                if is_four:
                    _tile_1x4(p, x_stride, left, u, block_stride, w_stride, n_in, s, q, y_stride)
                else:
                    _tile_1x1(p, x_stride, left, u, block_stride, w_stride, n_in, s, q, y_stride)
                r += 1
        b += 4 if is_four else 1


@numba.njit(**OPTIONS, cache=True)
def multiply(x, w, scales, layer, y):  # pragma: no cover (compiled)
    """Compute y = x w[layer] with w [layer, block, input, 16] and scales [layer, output]. Rows of x may be longer than the inputs;
    rows of y are whole blocks."""
    n_blocks, n_in = w.shape[1], w.shape[2]
    weights, size = at(w, layer * n_blocks * n_in * LANES), at(scales, layer * n_blocks * LANES)
    product(at(x, 0), x.shape[1], len(x), weights, n_in * LANES, LANES, n_in, n_blocks, size, at(y, 0), y.shape[1])


@numba.njit(fastmath=True, **OPTIONS)
def _normalize(x, weight, eps, y):  # pragma: no cover (compiled)
    total = np.float32(0)
    for i in range(len(weight)):
        total += x[i] * x[i]
    scale = np.float32(1) / np.sqrt(total / np.float32(len(weight)) + np.float32(eps))
    for i in range(len(weight)):
        y[i] = x[i] * scale * weight[i]


@numba.njit(fastmath=True, **OPTIONS)
def _rotate_head(x, width, weight, eps, cos, sin, y):  # pragma: no cover (compiled)
    """Normalize a head and apply its rotary position. Takes addresses, because slices cost more than the computation; not in
    place, because LLVM does not vectorize what may overlap."""
    half, total = width // 2, np.float32(0)
    for i in range(width):
        total += x[i] * x[i]
    scale = np.float32(1) / np.sqrt(total / np.float32(width) + np.float32(eps))
    for i in range(half):
        first, second = x[i] * scale * weight[i], x[i + half] * scale * weight[i + half]
        y[i] = first * cos[i] - second * sin[i]
        y[i + half] = second * cos[i + half] + first * sin[i + half]


@numba.njit(fastmath=True, **OPTIONS)
def _store_token(qkv, sizes, eps, w, layer, slot, position, past, rotated):  # pragma: no cover (compiled)
    """Normalize and rotate one token's queries and keys; store its keys and values in the cache."""
    n_head, n_kv_head, d_head = sizes
    cos, sin = at(w.cos, position * d_head), at(w.sin, position * d_head)
    for head in range(n_head + n_kv_head):
        weight = at(w.qk_norms, (2 * layer + (1 if head >= n_head else 0)) * d_head)
        _rotate_head(at(qkv, head * d_head), d_head, weight, eps, cos, sin, at(rotated, head * d_head))
    room, width = past.values.shape[3], past.values.shape[4]
    for group in range(n_kv_head):
        at_group = ((slot * past.keys.shape[1] + layer) * n_kv_head + group) * room
        key, value = at(rotated, (n_head + group) * d_head), at(qkv, (n_head + n_kv_head + group) * d_head)
        column = at(past.keys, (at_group + position // LANES * LANES) * d_head + position % LANES)
        row = at(past.values, (at_group + position) * width)
        for i in range(d_head):
            column[i * LANES] = key[i]
        for i in range(d_head):
            row[i] = value[i]


@numba.njit(fastmath=True, **OPTIONS)
def _apply_softmax(scores, scale):  # pragma: no cover (compiled)
    """Replace scores by softmax(scale × scores)."""
    largest, total = scores[0], np.float32(0)
    for t in range(len(scores)):
        largest = max(largest, scores[t])
    for t in range(len(scores)):
        scores[t] = exp((scores[t] - largest) * scale)
        total += scores[t]
    factor = np.float32(1) / total
    for t in range(len(scores)):
        scores[t] *= factor


@numba.njit(fastmath=True, **OPTIONS)
def _attend(queries, sizes, layer, slot, n_past, past, scores, mixed, heads):  # pragma: no cover (compiled)
    """Compute attention for one token. Heads that share keys are the rows of two products, with the keys and with the values."""
    n_head, n_kv_head, d_head = sizes
    n_group, n_layer, room, width = n_head // n_kv_head, past.keys.shape[1], past.values.shape[3], past.values.shape[4]
    scale = np.float32(1) / np.sqrt(np.float32(d_head))
    for group in range(n_kv_head):
        at_group = ((slot * n_layer + layer) * n_kv_head + group) * room
        keys, values = at(past.keys, at_group * d_head), at(past.values, at_group * width)
        rows, weights, means = at(queries, group * n_group * d_head), at(scores, 0), at(mixed, 0)
        n_blocks, stride = (n_past + LANES - 1) // LANES, scores.shape[1]
        product(rows, d_head, n_group, keys, d_head * LANES, LANES, d_head, n_blocks, weights, weights, stride)
        for head in range(n_group):
            _apply_softmax(scores[head, :n_past], scale)
        product(weights, stride, n_group, values, LANES, width, n_past, width // LANES, weights, means, width)
        for head in range(n_group):
            for i in range(d_head):
                heads[(group * n_group + head) * d_head + i] = mixed[head, i]


@numba.njit(fastmath=True, **OPTIONS, cache=True)
def forward(ids, slots, positions, sizes, eps, w, past):  # pragma: no cover (compiled)
    """Pass tokens of any slots through all layers and store their keys and values. Return the normalized hidden states."""
    n_head, n_kv_head, d_head = sizes
    n, d_model, d_ff, width = len(ids), w.norms.shape[2], w.down.values.shape[2], past.values.shape[4]
    x, y = np.empty((n, d_model), np.float32), np.empty((n, w.down.values.shape[1] * LANES), np.float32)
    qkv, heads = np.empty((n, w.qkv.values.shape[1] * LANES), np.float32), np.empty((n, n_head * d_head), np.float32)
    rotated = np.empty((n, (n_head + n_kv_head) * d_head), np.float32)
    wide, gated = np.empty((n, w.gate_up.values.shape[1] * LANES), np.float32), np.empty((n, d_ff), np.float32)
    n_group, longest = n_head // n_kv_head, (positions.max() // LANES + 1) * LANES
    scores, mixed = np.empty((n_group, longest), np.float32), np.empty((n_group, width), np.float32)
    for r in range(n):
        x[r] = w.embedding[ids[r]]
    for layer in range(len(w.norms)):
        for r in range(n):
            _normalize(x[r], w.norms[layer, 0], eps, y[r])
        multiply(y, w.qkv.values, w.qkv.scales, layer, qkv)
        for r in range(n):
            _store_token(qkv[r], sizes, eps, w, layer, slots[r], positions[r], past, rotated[r])
        for r in range(n):
            _attend(rotated[r], sizes, layer, slots[r], positions[r] + 1, past, scores, mixed, heads[r])
        multiply(heads, w.out.values, w.out.scales, layer, y)
        for r in range(n):
            for i in range(d_model):
                x[r, i] += y[r, i]
            _normalize(x[r], w.norms[layer, 1], eps, y[r])
        multiply(y, w.gate_up.values, w.gate_up.scales, layer, wide)
        for r in range(n):
            for i in range(d_ff):
                gated[r, i] = wide[r, i] / (np.float32(1) + exp(min(-wide[r, i], -LOWEST))) * wide[r, d_ff + i]
        multiply(gated, w.down.values, w.down.scales, layer, y)
        for r in range(n):
            for i in range(d_model):
                x[r, i] += y[r, i]
    hidden = np.empty((n, d_model), np.float32)
    for r in range(n):
        _normalize(x[r], w.norm, eps, hidden[r])
    return hidden

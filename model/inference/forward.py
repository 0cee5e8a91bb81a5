"""A decoder's layers in one compiled call, and what it is made of: products of a few rows with packed weights.

In: ids with their places and positions; weights in fp32 or int8, packed in blocks of 16 outputs ([block, input, 16]); the keys and
values of the past, which lie so that they are matrices too. Out: hidden states; new keys and values in the past. The inner loop of
a product is written as LLVM vectors: a tile of 8 rows × 32 outputs stays in registers, each vector of weights that is loaded serves
every row, each number of a row every vector. One core of an AMD EPYC with AVX-512 reaches 44 GFLOP/s with one row (memory bounds
it), 158 with 4, 224 with 8, 240 with more. Memory: hidden states of the rows. Time: O(weights + past) for up to four rows.

Each output is one chain of multiply-adds over the inputs in their order, whatever tile it falls into. So the other rows of a
batch, their number and their order change no bit of a row's result.

All in one file: Numba's cache on disk looks at the time of the outermost function's file only, not at what that calls.
"""

# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false, reportGeneralTypeIssues=false, reportPrivateImportUsage=false, reportCallIssue=false
# (what Numba compiles takes its types from what it is called with)
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

LANES = 16  # fp32 values in an AVX-512 register; narrower machines take two or four for one
_FLOAT, _BYTE, _SHORT, _INDEX = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)
OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True}  # "numpy": no branch at each division


def padded(n: int) -> int:
    """The next multiple of LANES."""
    return -(-n // LANES) * LANES


def pack(matrix: NDArray[Any]) -> NDArray[Any]:
    """[output, input] → [block, input, 16], with outputs of zeros to fill the last block."""
    n_out, n_in = matrix.shape
    blocks = np.zeros((padded(n_out), n_in), matrix.dtype)
    blocks[:n_out] = matrix
    return np.ascontiguousarray(blocks.reshape(-1, LANES, n_in).transpose(0, 2, 1))


@intrinsic
def _at(typing_context, source, offset):
    """The address of an element of an array (counted as if it were flat), or so many elements behind an address."""
    is_array = isinstance(source, types.Array)
    result = types.CPointer(source.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = context.make_array(source)(context, builder, arguments[0]).data if is_array else arguments[0]
        return builder.gep(start, [arguments[1]])

    return result(source, types.int64), generate


at: Any = _at  # its first argument is Numba's, not the caller's


def _tile(n_rows: int, n_blocks: int) -> Any:
    """An intrinsic for at most that many rows and exactly that many blocks; it takes addresses. A row beyond the last is the last
    once more. int8 weights are scaled at the end, fp32 weights are not."""

    @intrinsic
    def tile(typing_context, x, x_stride, rows, w, block_stride, w_stride, n_in, scales, y, y_stride):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            is_wide = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
            height, width = (n_rows, n_blocks) if is_wide or n_rows == 1 else (4, 1)  # what the registers hold
            for row in range(0, n_rows, height):
                for block in range(0, n_blocks, width):
                    _generate(builder, arguments, range(row, row + height), range(block, block + width))
            return context.get_dummy_value()

        size = types.int64
        return types.void(x, size, size, w, size, size, size, scales, y, size), generate

    return tile


def _generate(builder: Any, arguments: Any, rows: range, blocks: range) -> None:
    x, x_stride, n_rows, w, block_stride, w_stride, n_in, scales, y, y_stride = arguments
    last = builder.sub(n_rows, _INDEX(1))
    places = [builder.select(builder.icmp_signed("<", _INDEX(row), last), _INDEX(row), last) for row in rows]
    sources = [builder.gep(x, [builder.mul(place, x_stride)]) for place in places]
    weights = [builder.gep(w, [builder.mul(_INDEX(block), block_stride)]) for block in blocks]
    sums = [[cgutils.alloca_once(builder, _VECTOR) for _ in blocks] for _ in rows]  # LLVM makes registers of them
    for line in sums:
        for total in line:
            builder.store(ir.Constant(_VECTOR, [0.0] * LANES), total)
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    add_product = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    with cgutils.for_range(builder, n_in) as loop:
        step = builder.mul(loop.index, w_stride)
        vectors = [_load(builder, builder.gep(weight, [step])) for weight in weights]
        for source, line in zip(sources, sums, strict=True):
            value = _spread(builder, builder.load(builder.gep(source, [loop.index])))
            for vector, total in zip(vectors, line, strict=True):
                builder.store(builder.call(add_product, [value, vector, builder.load(total)]), total)
    for place, line in zip(places, sums, strict=True):
        for block, total in zip(blocks, line, strict=True):
            column, value = _INDEX(block * LANES), builder.load(total)
            if w.type.pointee == _BYTE:
                value = builder.fmul(value, _load(builder, builder.gep(scales, [column])))
            target = builder.gep(y, [builder.add(builder.mul(place, y_stride), column)])
            builder.store(value, builder.bitcast(target, _VECTOR.as_pointer()), align=4)


def _load(builder: Any, address: Any) -> Any:
    kind = ir.VectorType(address.type.pointee, LANES)
    is_byte = address.type.pointee == _BYTE
    loaded = builder.load(builder.bitcast(address, kind.as_pointer()), align=1 if is_byte else 4)
    return builder.sitofp(loaded, _VECTOR) if is_byte else loaded


def _spread(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _SHORT(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_SHORT, LANES), [0] * LANES))


_tile_8x2, _tile_8x1 = _tile(8, 2), _tile(8, 1)
_tile_4x4, _tile_4x1 = _tile(4, 4), _tile(4, 1)
_tile_1x4, _tile_1x1 = _tile(1, 4), _tile(1, 1)


@numba.njit(**OPTIONS)
def product(
    x, x_stride, n_rows, w, block_stride, w_stride, n_in, n_blocks, scales, y, y_stride
):  # pragma: no cover (compiled)
    """y = x w from addresses, four blocks at a time: they stay in the nearest cache while the rows pass."""
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
    """y = x w[layer]: w [layer, block, input, 16], scales [layer, output]. Rows of x may be longer than the inputs; those of y
    are whole blocks."""
    n_blocks, n_in = w.shape[1], w.shape[2]
    weights, size = at(w, layer * n_blocks * n_in * LANES), at(scales, layer * n_blocks * LANES)
    product(at(x, 0), x.shape[1], len(x), weights, n_in * LANES, LANES, n_in, n_blocks, size, at(y, 0), y.shape[1])


@numba.njit(fastmath=True, **OPTIONS)
def _normalise(x, weight, eps, y):  # pragma: no cover (compiled)
    total = np.float32(0)
    for i in range(len(weight)):
        total += x[i] * x[i]
    scale = np.float32(1) / np.sqrt(total / np.float32(len(weight)) + np.float32(eps))
    for i in range(len(weight)):
        y[i] = x[i] * scale * weight[i]


@numba.njit(fastmath=True, **OPTIONS)
def _turn(x, width, weight, eps, cos, sin, y):  # pragma: no cover (compiled)
    """y = norm of a head, then its rotary position. Addresses, as slices cost more than the work; not in place, as what may
    overlap is not vectorised."""
    half, total = width // 2, np.float32(0)
    for i in range(width):
        total += x[i] * x[i]
    scale = np.float32(1) / np.sqrt(total / np.float32(width) + np.float32(eps))
    for i in range(half):
        first, second = x[i] * scale * weight[i], x[i + half] * scale * weight[i + half]
        y[i] = first * cos[i] - second * sin[i]
        y[i + half] = second * cos[i + half] + first * sin[i + half]


@numba.njit(fastmath=True, **OPTIONS)
def _remember(qkv, sizes, eps, w, layer, place, position, past, turned):  # pragma: no cover (compiled)
    """One token's queries and keys, normed and turned; its keys and values into the past."""
    n_head, n_kv_head, d_head = sizes
    cos, sin = at(w.cos, position * d_head), at(w.sin, position * d_head)
    for head in range(n_head + n_kv_head):
        weight = at(w.qk_norms, (2 * layer + (1 if head >= n_head else 0)) * d_head)
        _turn(at(qkv, head * d_head), d_head, weight, eps, cos, sin, at(turned, head * d_head))
    room, width = past.values.shape[3], past.values.shape[4]
    for group in range(n_kv_head):
        at_group = ((place * past.keys.shape[1] + layer) * n_kv_head + group) * room
        key, value = at(turned, (n_head + group) * d_head), at(qkv, (n_head + n_kv_head + group) * d_head)
        column = at(past.keys, (at_group + position // LANES * LANES) * d_head + position % LANES)
        row = at(past.values, (at_group + position) * width)
        for i in range(d_head):
            column[i * LANES] = key[i]
        for i in range(d_head):
            row[i] = value[i]


@numba.njit(fastmath=True, **OPTIONS)
def _soften(scores, scale):  # pragma: no cover (compiled)
    """Softmax of scale × scores, in place."""
    largest, total = scores[0], np.float32(0)
    for t in range(len(scores)):
        largest = max(largest, scores[t])
    for t in range(len(scores)):
        scores[t] = exp((scores[t] - largest) * scale)
        total += scores[t]
    share = np.float32(1) / total
    for t in range(len(scores)):
        scores[t] *= share


@numba.njit(fastmath=True, **OPTIONS)
def _attend(queries, sizes, layer, place, n_past, past, scores, mixed, heads):  # pragma: no cover (compiled)
    """One token. The heads that share keys are the rows of two products: with the keys, and with the values."""
    n_head, n_kv_head, d_head = sizes
    n_group, n_layer, room, width = n_head // n_kv_head, past.keys.shape[1], past.values.shape[3], past.values.shape[4]
    scale = np.float32(1) / np.sqrt(np.float32(d_head))
    for group in range(n_kv_head):
        at_group = ((place * n_layer + layer) * n_kv_head + group) * room
        keys, values = at(past.keys, at_group * d_head), at(past.values, at_group * width)
        rows, chances, means = at(queries, group * n_group * d_head), at(scores, 0), at(mixed, 0)
        n_blocks, stride = (n_past + LANES - 1) // LANES, scores.shape[1]
        product(rows, d_head, n_group, keys, d_head * LANES, LANES, d_head, n_blocks, chances, chances, stride)
        for head in range(n_group):
            _soften(scores[head, :n_past], scale)
        product(chances, stride, n_group, values, LANES, width, n_past, width // LANES, chances, means, width)
        for head in range(n_group):
            for i in range(d_head):
                heads[(group * n_group + head) * d_head + i] = mixed[head, i]


@numba.njit(fastmath=True, **OPTIONS, cache=True)
def forward(ids, places, positions, sizes, eps, w, past):  # pragma: no cover (compiled)
    """Tokens of any places through all layers, their keys and values into the past; the normed hidden states."""
    n_head, n_kv_head, d_head = sizes
    n, d_model, d_ff, width = len(ids), w.norms.shape[2], w.down.values.shape[2], past.values.shape[4]
    x, y = np.empty((n, d_model), np.float32), np.empty((n, w.down.values.shape[1] * LANES), np.float32)
    qkv, heads = np.empty((n, w.qkv.values.shape[1] * LANES), np.float32), np.empty((n, n_head * d_head), np.float32)
    turned = np.empty((n, (n_head + n_kv_head) * d_head), np.float32)
    wide, gated = np.empty((n, w.gate_up.values.shape[1] * LANES), np.float32), np.empty((n, d_ff), np.float32)
    n_group, longest = n_head // n_kv_head, (positions.max() // LANES + 1) * LANES
    scores, mixed = np.empty((n_group, longest), np.float32), np.empty((n_group, width), np.float32)
    for r in range(n):
        x[r] = w.embedding[ids[r]]
    for layer in range(len(w.norms)):
        for r in range(n):
            _normalise(x[r], w.norms[layer, 0], eps, y[r])
        multiply(y, w.qkv.values, w.qkv.scales, layer, qkv)
        for r in range(n):
            _remember(qkv[r], sizes, eps, w, layer, places[r], positions[r], past, turned[r])
        for r in range(n):
            _attend(turned[r], sizes, layer, places[r], positions[r] + 1, past, scores, mixed, heads[r])
        multiply(heads, w.out.values, w.out.scales, layer, y)
        for r in range(n):
            for i in range(d_model):
                x[r, i] += y[r, i]
            _normalise(x[r], w.norms[layer, 1], eps, y[r])
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
        _normalise(x[r], w.norm, eps, hidden[r])
    return hidden

"""Compute a decoder's layers in one compiled call, built on products of a few rows with packed weights.

In: ids with their slots and positions; weights packed in blocks of 16 outputs ([block, input, 16]); the KV cache, laid out as such
matrices too. Out: hidden states; new keys and values in the cache. The inner loop of a product consists of LLVM vectors: a tile of
8 rows × 32 outputs stays in registers, each loaded vector of weights serves every row and each number of a row every vector. One
core of an AMD EPYC with AVX-512 reaches 44 GFLOP/s with one row (memory-bound), 158 with 4, 224 with 8, 240 with more. Memory: the
hidden states of the rows. Time: O(weights + past) for up to four rows.

The type of a matrix is its format: float32; uint16, bf16; int8, 8-bit integers; uint8, two 4-bit integers per byte (input j and
j + 16 of a group of 32). Integers have scales ([block, group, 16], fp16 bits): the products of a group are summed, then scaled.

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
from model.network.quantize import GROUP

LANES = 16  # fp32 values in an AVX-512 register; CPUs with narrower registers use two or four for one vector
HALF_GROUP = GROUP // 2
_FLOAT, _HALF, _BYTE, _WORD, _INT, _INDEX = ir.FloatType(), ir.HalfType(), *map(ir.IntType, (8, 16, 32, 64))
_VECTOR, _INTS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INT, LANES)
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
    last one repeat it."""

    @intrinsic
    def tile(typing_context, x, x_stride, rows, w, block_stride, w_stride, n_in, scales, y, y_stride):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            is_wide = llvmlite.binding.get_host_cpu_features().get("avx512f", False)
            height, width = (n_rows, n_blocks) if is_wide or n_rows == 1 else (4, 1)  # what fits into the registers
            for row in range(0, n_rows, height):
                for block in range(0, n_blocks, width):
                    _emit_tile(builder, arguments, w.dtype, range(row, row + height), range(block, block + width))
            return context.get_dummy_value()

        size = types.int64
        return types.void(x, size, size, w, size, size, size, scales, y, size), generate

    return tile


def _emit_tile(builder: Any, arguments: Any, kind: Any, rows: range, blocks: range) -> None:
    x, x_stride, n_rows, w, block_stride, w_stride, n_in, scales, y, y_stride = arguments
    last = builder.sub(n_rows, _INDEX(1))
    clamped = [builder.select(builder.icmp_signed("<", _INDEX(row), last), _INDEX(row), last) for row in rows]
    sources = [builder.gep(x, [builder.mul(row, x_stride)]) for row in clamped]
    weights = [builder.gep(w, [builder.mul(_INDEX(block), block_stride)]) for block in blocks]
    totals = _emit_zeros(builder, len(rows), len(blocks))
    if kind in (types.int8, types.uint8):
        n_groups = builder.udiv(n_in, _INDEX(GROUP))
        scale_stride = builder.mul(n_groups, _INDEX(LANES))
        steps = [builder.gep(scales, [builder.mul(_INDEX(block), scale_stride)]) for block in blocks]
        with cgutils.for_range(builder, n_groups) as group:
            sums = _emit_zeros(builder, len(rows), len(blocks))
            n_vectors = GROUP if kind == types.int8 else HALF_GROUP
            with cgutils.for_range(builder, _INDEX(n_vectors)) as loop:
                at_vector = builder.add(builder.mul(group.index, _INDEX(n_vectors)), loop.index)
                at_input = builder.add(builder.mul(group.index, _INDEX(GROUP)), loop.index)
                offset = builder.mul(at_vector, w_stride)
                loaded = [_emit_integers(builder, builder.gep(weight, [offset]), kind) for weight in weights]
                for part in range(len(loaded[0])):
                    column = builder.add(at_input, _INDEX(part * HALF_GROUP))
                    _emit_add_products(builder, sources, column, [vectors[part] for vectors in loaded], sums)
            offset = builder.mul(group.index, _INDEX(LANES))
            factors = [_emit_half(builder, builder.gep(step, [offset])) for step in steps]
            for line, total in zip(sums, totals, strict=True):
                for value, factor, target in zip(line, factors, total, strict=True):
                    _emit_add_product(builder, builder.load(value), factor, target)
    else:
        with cgutils.for_range(builder, n_in) as loop:
            offset = builder.mul(loop.index, w_stride)
            vectors = [_emit_floats(builder, builder.gep(weight, [offset]), kind) for weight in weights]
            _emit_add_products(builder, sources, loop.index, vectors, totals)
    for row, line in zip(clamped, totals, strict=True):
        for block, total in zip(blocks, line, strict=True):
            target = builder.gep(y, [builder.add(builder.mul(row, y_stride), _INDEX(block * LANES))])
            builder.store(builder.load(total), builder.bitcast(target, _VECTOR.as_pointer()), align=4)


def _emit_zeros(builder: Any, n_rows: int, n_blocks: int) -> list[list[Any]]:
    """Return one variable per row and block, set to zeros here; LLVM promotes them to registers."""
    variables = [[cgutils.alloca_once(builder, _VECTOR) for _ in range(n_blocks)] for _ in range(n_rows)]
    for line in variables:
        for variable in line:
            builder.store(ir.Constant(_VECTOR, [0.0] * LANES), variable)
    return variables


def _emit_add_products(
    builder: Any, sources: list[Any], column: Any, vectors: list[Any], sums: list[list[Any]]
) -> None:
    """Add the number of each row at `column` times each vector of weights to the row's sums."""
    for source, line in zip(sources, sums, strict=True):
        value = _emit_broadcast(builder, builder.load(builder.gep(source, [column])))
        for vector, total in zip(vectors, line, strict=True):
            _emit_add_product(builder, value, vector, total)


def _emit_add_product(builder: Any, first: Any, second: Any, total: Any) -> None:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    add_product = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
    builder.store(builder.call(add_product, [first, second, builder.load(total)]), total)


def _emit_load(builder: Any, address: Any, element: Any, align: int) -> Any:
    return builder.load(builder.bitcast(address, ir.VectorType(element, LANES).as_pointer()), align=align)


def _emit_floats(builder: Any, address: Any, kind: Any) -> Any:
    """Load a vector of fp32 or bf16 weights."""
    if kind == types.float32:
        return _emit_load(builder, address, _FLOAT, 4)
    wide = builder.zext(_emit_load(builder, address, _WORD, 2), _INTS)
    return builder.bitcast(builder.shl(wide, ir.Constant(_INTS, [16] * LANES)), _VECTOR)


def _emit_half(builder: Any, address: Any) -> Any:
    return builder.fpext(_emit_load(builder, address, _HALF, 2), _VECTOR)


def _emit_integers(builder: Any, address: Any, kind: Any) -> list[Any]:
    """Load a vector of 8-bit integers, or the two vectors of 4-bit integers in one of bytes, as fp32."""
    loaded = _emit_load(builder, address, _BYTE, 1)
    if kind == types.int8:
        return [builder.sitofp(loaded, _VECTOR)]
    wide = builder.zext(loaded, _INTS)
    high = builder.lshr(wide, ir.Constant(_INTS, [4] * LANES))
    if llvmlite.binding.get_host_cpu_features().get("avx512f", False):
        # One table look-up, which reads the lowest four bits of its index, for mask, subtraction and conversion.
        table = ir.Constant(_VECTOR, [float(value) for value in range(-8, 8)])
        look_up = ir.FunctionType(_VECTOR, [_VECTOR, _INTS])
        permute = cgutils.get_or_insert_function(builder.module, look_up, "llvm.x86.avx512.permvar.sf.512")
        return [builder.call(permute, [table, index]) for index in (wide, high)]
    low = builder.and_(wide, ir.Constant(_INTS, [15] * LANES))
    return [builder.sitofp(builder.sub(part, ir.Constant(_INTS, [8] * LANES)), _VECTOR) for part in (low, high)]


@intrinsic
def _weight(typing_context, values, offset, scales, scale_offset):
    """Return one weight of a packed matrix of any format but int4, as fp32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        first, offset, second, scale_offset = arguments
        value = builder.load(builder.gep(first, [offset]))
        if values.dtype == types.float32:
            return value
        if values.dtype == types.uint16:
            return builder.bitcast(builder.shl(builder.zext(value, _INT), _INT(16)), _FLOAT)
        scale = builder.load(builder.bitcast(builder.gep(second, [scale_offset]), _HALF.as_pointer()))
        return builder.fmul(builder.sitofp(value, _FLOAT), builder.fpext(scale, _FLOAT))

    return types.float32(values, types.int64, scales, types.int64), generate


weight_at: Any = _weight  # untyped, because Numba passes the first parameter


def _emit_broadcast(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, _INT(0))
    return builder.shuffle_vector(first, first, ir.Constant(_INTS, [0] * LANES))


_tile_8x2, _tile_8x1 = _make_tile(8, 2), _make_tile(8, 1)
_tile_4x4, _tile_4x1 = _make_tile(4, 4), _make_tile(4, 1)
_tile_1x4, _tile_1x1 = _make_tile(1, 4), _make_tile(1, 1)


@numba.njit(**OPTIONS)
def product(
    x, x_stride, n_rows, w, block_stride, w_stride, n_in, n_blocks, scales, y, y_stride
):  # pragma: no cover (compiled)
    """Compute y = x w, given addresses, four blocks at a time, which stay in the L1 cache for all rows."""
    b, scale_stride = 0, n_in // GROUP * LANES
    while b < n_blocks:
        is_four = b + 4 <= n_blocks
        u, s = at(w, b * block_stride), at(scales, b * scale_stride)
        r = 0
        while r < n_rows:
            p, q, left = at(x, r * x_stride), at(y, r * y_stride + b * LANES), n_rows - r
            if left > 4:
                if is_four:
                    _tile_8x2(p, x_stride, left, u, block_stride, w_stride, n_in, s, q, y_stride)
                    u_2, s_2, q_2 = at(u, 2 * block_stride), at(s, 2 * scale_stride), at(q, 2 * LANES)
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
    """Compute y = x w[layer] with w [layer, block, input, 16] (int4: half as many) and scales [layer, block, group, 16] (without
    groups where there are none). Rows of x may be longer than the inputs; rows of y are whole blocks."""
    n_blocks, n_vectors, n_groups = w.shape[1], w.shape[2], scales.shape[2]
    n_in = max(n_vectors, n_groups * GROUP)
    weights, size = at(w, layer * n_blocks * n_vectors * LANES), at(scales, layer * n_blocks * n_groups * LANES)
    product(at(x, 0), x.shape[1], len(x), weights, n_vectors * LANES, LANES, n_in, n_blocks, size, at(y, 0), y.shape[1])


@numba.njit(**OPTIONS)
def _embed(table, row, x):  # pragma: no cover (compiled)
    """Copy one row of a packed table."""
    values, scales = at(table.values, 0), at(table.scales, 0)
    n_in, lane = table.values.shape[2], row % LANES
    first, first_scale = row // LANES * n_in * LANES + lane, row // LANES * (n_in // GROUP) * LANES + lane
    for i in range(n_in):
        x[i] = weight_at(values, first + i * LANES, scales, first_scale + i // GROUP * LANES)


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
    n, d_model, width = len(ids), w.norms.shape[2], past.values.shape[4]
    d_ff = max(w.down.values.shape[2], w.down.scales.shape[2] * GROUP)
    x, y = np.empty((n, d_model), np.float32), np.empty((n, w.down.values.shape[1] * LANES), np.float32)
    qkv, heads = np.empty((n, w.qkv.values.shape[1] * LANES), np.float32), np.empty((n, n_head * d_head), np.float32)
    rotated = np.empty((n, (n_head + n_kv_head) * d_head), np.float32)
    wide, gated = np.empty((n, w.gate_up.values.shape[1] * LANES), np.float32), np.empty((n, d_ff), np.float32)
    n_group, longest = n_head // n_kv_head, (positions.max() // LANES + 1) * LANES
    scores, mixed = np.empty((n_group, longest), np.float32), np.empty((n_group, width), np.float32)
    for r in range(n):
        _embed(w.embedding, ids[r], x[r])
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

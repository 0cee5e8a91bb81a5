"""Products of a few rows with packed weights at the speed of the vector units: what model.decoder is made of.

In: rows in fp32; a matrix in fp32 or int8, packed in blocks of 16 outputs ([block, input, 16]), or whatever lies like that: a
cache of keys (a block is 16 tokens) or of values. Out: rows times matrix. The inner loop is written as LLVM vectors: a tile of 8
rows × 32 outputs stays in registers, each vector of weights that is loaded serves every row, each number of a row every vector.
One core of an AMD EPYC with AVX-512 reaches 44 GFLOP/s with one row (memory bounds it), 158 with 4, 224 with 8, 240 with more.

Each output is one chain of multiply-adds over the inputs in their order, whatever tile it falls into. So the other rows of a
batch, their number and their order change no bit of a row's result.
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

LANES = 16  # fp32 values in an AVX-512 register; narrower machines take two or four for one
_FLOAT, _BYTE, _SHORT, _INDEX = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


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


@numba.njit(error_model="numpy", nogil=True)
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


@numba.njit(error_model="numpy", nogil=True, cache=True)
def multiply(x, w, scales, layer, y):  # pragma: no cover (compiled)
    """y = x w[layer]: w [layer, block, input, 16], scales [layer, output]. Rows of x may be longer than the inputs; those of y
    are whole blocks."""
    n_blocks, n_in = w.shape[1], w.shape[2]
    weights, size = at(w, layer * n_blocks * n_in * LANES), at(scales, layer * n_blocks * LANES)
    product(at(x, 0), x.shape[1], len(x), weights, n_in * LANES, LANES, n_in, n_blocks, size, at(y, 0), y.shape[1])

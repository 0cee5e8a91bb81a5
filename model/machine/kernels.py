"""CPU kernels in bf16 for everything between the matrix products of a training step, each one pass over memory; no C++ compiler.

In: addresses and sizes. Out: buffers filled in place. Compiled by Numba (LLVM) on first use (4 s for all) and cached on disk;
model.machine.openmp runs them on torch's threads. bf16 values are read as the upper half of an fp32 and written rounded to nearest
even; sums are fp32. Memory: none beyond the buffers. Time: that of one pass over the buffers; exp and softmax about 1 ns per
value and core.

Each thread processes an equal share of the rows: results don't depend on timing, only on the number of threads (through the order
of sums).
"""

# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false, reportGeneralTypeIssues=false, reportPrivateImportUsage=false, reportCallIssue=false
# (Numba infers the types of what it compiles from the call)
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

f32, i32, u16, u32 = np.float32, np.int32, np.uint16, np.uint32
ONE, ZERO = f32(1.0), f32(0.0)
LOG2_E, LN_2_HIGH, LN_2_LOW, ROUNDER = f32(1.44269504), f32(0.693359375), f32(-2.12194440e-4), f32(12582912.0)
EXP_2, EXP_3, EXP_4, EXP_5, EXP_6 = f32(0.5), f32(0.16666667), f32(0.041666575), f32(0.0083333333), f32(0.0013888889)
LOWEST = f32(-87.0)
IGNORE = -100

# No "nnan" or "ninf": a NaN loss has to stay NaN. error_model "numpy": no branch at each division.
OPTIONS: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}
inline = numba.njit(forceinline=True, **OPTIONS)
N_ARGUMENTS = 24  # the last two are the addresses of omp_get_thread_num and omp_get_num_threads


def _array(dtype: Any) -> Any:
    """Return an intrinsic that casts an address to a pointer to values of this type."""
    pointer = types.CPointer(dtype)

    @intrinsic
    def at(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(pointer))

        return pointer(types.int64), generate

    return at


@intrinsic
def call(typing_context: Any, address: Any) -> Any:
    """Call the function at this address and return its int32. By address, because a process may have loaded several OpenMP
    libraries, and a name could resolve to the wrong one, in which every thread is number 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.PointerType(ir.FunctionType(ir.IntType(32), []))
        return builder.call(builder.inttoptr(arguments[0], function), [])

    return types.int32(types.int64), generate


bf16_at, f32_at, i64_at = _array(types.uint16), _array(types.float32), _array(types.int64)


def _bits(build: Callable[[Any, Any], Any], result: Any, argument: Any) -> Any:
    """Return an intrinsic on the bits of one value, in 32-bit arithmetic (Numba widens integers to 64 bits, which halves the
    vector width)."""

    @intrinsic
    def operation(typing_context: Any, value: Any) -> Any:
        return result(argument), lambda context, builder, signature, arguments: build(builder, arguments[0])

    return operation


_I32, _F32 = ir.IntType(32), ir.FloatType()


def _build_load(builder: Any, value: Any) -> Any:
    return builder.bitcast(builder.shl(builder.zext(value, _I32), _I32(16)), _F32)


def _build_store(builder: Any, value: Any) -> Any:
    bits = builder.bitcast(value, _I32)
    odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
    return builder.trunc(builder.lshr(builder.add(bits, builder.add(odd, _I32(0x7FFF))), _I32(16)), ir.IntType(16))


def _build_whole(builder: Any, value: Any) -> Any:
    return builder.sitofp(builder.sub(builder.bitcast(value, _I32), _I32(0x4B400000)), _F32)


def _build_power(builder: Any, value: Any) -> Any:
    n = builder.sub(builder.bitcast(value, _I32), _I32(0x4B400000 - 127))
    return builder.bitcast(builder.shl(n, _I32(23)), _F32)


load = _bits(_build_load, types.float32, types.uint16)  # bf16 → fp32
store = _bits(_build_store, types.uint16, types.float32)  # fp32 → bf16, to nearest even
whole = _bits(_build_whole, types.float32, types.float32)  # n from n + 1.5 × 2^23, which rounded it
power = _bits(_build_power, types.float32, types.float32)  # 2^n from n + 1.5 × 2^23


@inline
def exp(x):
    """Return e^x with a relative error of 5e-7 for x ≥ -87: 2^n times a polynomial in the remainder."""
    x = max(x, LOWEST)
    z = x * LOG2_E + ROUNDER
    n = whole(z)
    r = x - n * LN_2_HIGH - n * LN_2_LOW
    p = EXP_5 + r * EXP_6
    p = EXP_4 + r * p
    p = EXP_3 + r * p
    p = EXP_2 + r * p
    p = ONE + r * p
    p = ONE + r * p
    return p * power(z)


@inline
def get_thread(a):
    """Return the number of this thread."""
    return call(a[N_ARGUMENTS - 2])


@inline
def get_rows(a, n):
    """Return the range of rows of this thread, of n in all."""
    t, k = call(a[N_ARGUMENTS - 2]), call(a[N_ARGUMENTS - 1])
    return n * t // k, n * (t + 1) // k


@inline
def decode_float(bits):
    """Return the float whose fp32 bits were passed as an integer."""
    return u32(bits).view(f32)


# ---- The kernels. `a` holds sizes and addresses, unpacked in the first lines of each kernel. -------------------------------


def add_norm(a):
    """Compute x + delta, then h = norm(x) * weight; keep 1 / rms for the backward pass. Address 0 for delta: nothing to add."""
    a = carray(a, (N_ARGUMENTS,))
    n, d, eps, has_delta = a[0], a[1], decode_float(a[2]), a[4] != 0
    x, delta, total = f32_at(a[3]), bf16_at(a[4]), f32_at(a[5])
    weight, h, inverse = f32_at(a[6]), bf16_at(a[7]), f32_at(a[8])
    start, stop = get_rows(a, n)
    for i in range(start, stop):
        squares = ZERO
        if has_delta:
            for j in range(i * d, i * d + d):
                value = x[j] + load(delta[j])
                total[j] = value
                squares += value * value
        else:
            for j in range(i * d, i * d + d):
                squares += x[j] * x[j]
        r = ONE / f32(np.sqrt(squares / f32(d) + eps))
        inverse[i] = r
        source = total if has_delta else x
        for j in range(d):
            h[i * d + j] = store(source[i * d + j] * r * weight[j])


def norm_backward(a):
    """Add the gradient of the norm to dx, also write dx in bf16, and sum the gradient of the weight per thread."""
    a = carray(a, (N_ARGUMENTS,))
    n, d = a[0], a[1]
    dh, x, inverse, weight = bf16_at(a[2]), f32_at(a[3]), f32_at(a[4]), f32_at(a[5])
    dx, dx_bf16, dweight = f32_at(a[6]), bf16_at(a[7]), f32_at(a[8])
    start, stop = get_rows(a, n)
    w = get_thread(a) * d
    for j in range(w, w + d):
        dweight[j] = ZERO
    for i in range(start, stop):
        r = inverse[i]
        dot = ZERO
        for j in range(d):
            dot += load(dh[i * d + j]) * weight[j] * x[i * d + j]
        shrink = dot * r * r / f32(d)
        for j in range(d):
            k = i * d + j
            slope = load(dh[k])
            dweight[w + j] += slope * x[k] * r
            value = dx[k] + r * (slope * weight[j] - x[k] * shrink)
            dx[k] = value
            dx_bf16[k] = store(value)


def split_heads(a):
    """Split qkv [B T (H+2G)K] into q [B G T H/G K] and k [B G T K], normalized and rotated, q also divided by √K; and
    v [B G T K]."""
    a = carray(a, (N_ARGUMENTS,))
    n, n_tokens, n_head, n_kv, width, eps = a[0], a[1], a[2], a[3], a[4], decode_float(a[5])
    qkv, q, k, v = bf16_at(a[6]), bf16_at(a[7]), bf16_at(a[8]), bf16_at(a[9])
    query_weight, key_weight, cos, sin = f32_at(a[10]), f32_at(a[11]), f32_at(a[12]), f32_at(a[13])
    half, row, group = width // 2, (n_head + 2 * n_kv) * width, n_head // n_kv
    scale = ONE / f32(np.sqrt(f32(width)))
    start, stop = get_rows(a, n)
    for i in range(start, stop):
        b, t = i // n_tokens, i % n_tokens
        for head in range(n_head + n_kv):
            is_query = head < n_head
            source = i * row + head * width
            weight = query_weight if is_query else key_weight
            out = q if is_query else k
            place = ((b * n_kv + head - n_head) * n_tokens + t) * width
            if is_query:
                place = (((b * n_kv + head // group) * n_tokens + t) * group + head % group) * width
            squares = ZERO
            for j in range(width):
                value = load(qkv[source + j])
                squares += value * value
            r = ONE / f32(np.sqrt(squares / f32(width) + eps))
            if is_query:
                r *= scale
            for j in range(half):
                first = load(qkv[source + j]) * r * weight[j]
                second = load(qkv[source + half + j]) * r * weight[half + j]
                c, s = cos[t * width + j], sin[t * width + j]
                out[place + j] = store(first * c - second * s)
                out[place + half + j] = store(second * c + first * s)
        for head in range(n_kv):
            source = i * row + (n_head + n_kv + head) * width
            place = (b * n_kv + head) * n_tokens * width + t * width
            for j in range(width):
                v[place + j] = qkv[source + j]


def split_heads_backward(a):
    """Compute the gradient of qkv from those of q, k and v, and the gradients of both norm weights per thread."""
    a = carray(a, (N_ARGUMENTS,))
    n, n_tokens, n_head, n_kv, width, eps = a[0], a[1], a[2], a[3], a[4], decode_float(a[5])
    qkv, dq, dk, dv = bf16_at(a[6]), bf16_at(a[7]), bf16_at(a[8]), bf16_at(a[9])
    query_weight, key_weight, cos, sin = f32_at(a[10]), f32_at(a[11]), f32_at(a[12]), f32_at(a[13])
    dqkv, dquery_weight, dkey_weight, scratch = bf16_at(a[14]), f32_at(a[15]), f32_at(a[16]), f32_at(a[17])
    half, row, group = width // 2, (n_head + 2 * n_kv) * width, n_head // n_kv
    scale = ONE / f32(np.sqrt(f32(width)))
    start, stop = get_rows(a, n)
    w = get_thread(a) * width
    for j in range(w, w + width):
        dquery_weight[j] = ZERO
        dkey_weight[j] = ZERO
    for i in range(start, stop):
        b, t = i // n_tokens, i % n_tokens
        for head in range(n_head + n_kv):
            is_query = head < n_head
            source = i * row + head * width
            weight = query_weight if is_query else key_weight
            dweight = dquery_weight if is_query else dkey_weight
            dout = dq if is_query else dk
            place = ((b * n_kv + head - n_head) * n_tokens + t) * width
            if is_query:
                place = (((b * n_kv + head // group) * n_tokens + t) * group + head % group) * width
            factor = scale if is_query else ONE
            squares = ZERO
            dot = ZERO
            for j in range(half):
                first, second = load(dout[place + j]) * factor, load(dout[place + half + j]) * factor
                c, s = cos[t * width + j], sin[t * width + j]
                scratch[w + j] = first * c + second * s
                scratch[w + half + j] = second * c - first * s
            for j in range(width):
                value = load(qkv[source + j])
                squares += value * value
                dot += scratch[w + j] * weight[j] * value
            r = ONE / f32(np.sqrt(squares / f32(width) + eps))
            shrink = dot * r * r / f32(width)
            for j in range(width):
                value = load(qkv[source + j])
                dweight[w + j] += scratch[w + j] * value * r
                dqkv[source + j] = store(r * (scratch[w + j] * weight[j] - value * shrink))
        for head in range(n_kv):
            source = i * row + (n_head + n_kv + head) * width
            place = (b * n_kv + head) * n_tokens * width + t * width
            for j in range(width):
                dqkv[source + j] = dv[place + j]


def causal_softmax(a):
    """Turn scores [B G t H/G keys] of the queries `begin` … `end` with the keys `base` … `end` into probabilities, in place: over
    the columns from the start of the token's document to the token itself, 0 elsewhere."""
    a = carray(a, (N_ARGUMENTS,))
    n, n_tokens, n_kv, group, begin, end, base = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
    scores, first, scratch = bf16_at(a[7]), i64_at(a[8]), f32_at(a[9])
    start, stop = get_rows(a, n)
    buffer = get_thread(a) * n_tokens
    per_batch, width = (end - begin) * group, end - base
    for i in range(start, stop):
        b, t = i // (n_kv * per_batch), begin + i % per_batch // group
        row, low, high = i * width, first[b * n_tokens + t] - base, t + 1 - base
        highest = f32(-3e38)
        for j in range(low, high):
            highest = max(highest, load(scores[row + j]))
        total = ZERO
        for j in range(low, high):
            value = exp(load(scores[row + j]) - highest)
            scratch[buffer + j] = value
            total += value
        scale = ONE / total
        for j in range(low):
            scores[row + j] = 0
        for j in range(low, high):
            scores[row + j] = store(scratch[buffer + j] * scale)
        for j in range(high, width):
            scores[row + j] = 0


def causal_softmax_backward(a):
    """Turn dP into dS = P (dP - Σ P dP), in place."""
    a = carray(a, (N_ARGUMENTS,))
    n, n_tokens, n_kv, group, begin, end, base = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
    chance, slope, first = bf16_at(a[7]), bf16_at(a[8]), i64_at(a[9])
    start, stop = get_rows(a, n)
    per_batch, width = (end - begin) * group, end - base
    for i in range(start, stop):
        b, t = i // (n_kv * per_batch), begin + i % per_batch // group
        row, low, high = i * width, first[b * n_tokens + t] - base, t + 1 - base
        dot = ZERO
        for j in range(row + low, row + high):
            dot += load(chance[j]) * load(slope[j])
        for j in range(row, row + low):
            slope[j] = 0
        for j in range(row + low, row + high):
            slope[j] = store(load(chance[j]) * (load(slope[j]) - dot))
        for j in range(row + high, row + width):
            slope[j] = 0


def swiglu(a):
    """Compute silu(first half) × second half: [N 2F] → [N F]."""
    a = carray(a, (N_ARGUMENTS,))
    n, f = a[0], a[1]
    both, out = bf16_at(a[2]), bf16_at(a[3])
    start, stop = get_rows(a, n)
    for i in range(start, stop):
        for j in range(f):
            gate, up = load(both[2 * i * f + j]), load(both[(2 * i + 1) * f + j])
            out[i * f + j] = store(gate * up / (ONE + exp(min(-gate, -LOWEST))))


def swiglu_backward(a):
    """Compute the gradient of both halves [N 2F] from that of the output [N F]."""
    a = carray(a, (N_ARGUMENTS,))
    n, f = a[0], a[1]
    both, dout, dboth = bf16_at(a[2]), bf16_at(a[3]), bf16_at(a[4])
    start, stop = get_rows(a, n)
    for i in range(start, stop):
        for j in range(f):
            gate, up, slope = load(both[2 * i * f + j]), load(both[(2 * i + 1) * f + j]), load(dout[i * f + j])
            chance = ONE / (ONE + exp(min(-gate, -LOWEST)))
            dboth[2 * i * f + j] = store(slope * up * chance * (ONE + gate * (ONE - chance)))
            dboth[(2 * i + 1) * f + j] = store(slope * gate * chance)


def cross_entropy(a):
    """Turn logits [N V] into their gradient times `scale` and the target's weight, in place; write the weighted nats of each target
    (0 and no gradient where there is none). Address 0 for weights: all are 1."""
    a = carray(a, (N_ARGUMENTS,))
    n, v, scale = a[0], a[1], decode_float(a[2])
    logits, targets, nats, scratch = bf16_at(a[3]), i64_at(a[4]), f32_at(a[5]), f32_at(a[6])
    weights, has_weights = f32_at(a[7]), a[7] != 0
    start, stop = get_rows(a, n)
    buffer = get_thread(a) * v
    for i in range(start, stop):
        row, target = i * v, targets[i]
        if target == IGNORE:
            nats[i] = ZERO
            for j in range(row, row + v):
                logits[j] = 0
            continue
        highest = f32(-3e38)
        for j in range(row, row + v):
            highest = max(highest, load(logits[j]))
        total = ZERO
        for j in range(v):
            value = exp(load(logits[row + j]) - highest)
            scratch[buffer + j] = value
            total += value
        weight = weights[i] if has_weights else ONE
        nats[i] = (f32(np.log(total)) + highest - load(logits[row + target])) * weight
        slope = scale * weight
        factor = slope / total
        for j in range(v):
            logits[row + j] = store(scratch[buffer + j] * factor)
        logits[row + target] = store(scratch[buffer + target] * factor - slope)


def add_rows(a):
    """Add rows[i] to table[ids[i]]; each thread owns a range of columns, so the order of the sums is fixed."""
    a = carray(a, (N_ARGUMENTS,))
    n, d = a[0], a[1]
    ids, rows, table = i64_at(a[2]), f32_at(a[3]), f32_at(a[4])
    start, stop = get_rows(a, d)
    for i in range(n):
        k = ids[i] * d
        for j in range(start, stop):
            table[k + j] += rows[i * d + j]

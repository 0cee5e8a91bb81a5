"""The CPU kernel of model.network.soft_targets: cross-entropy mixed with the divergence from a teacher's top-k distribution.

It follows the rules of model.machine.kernels and is launched like them (model.machine.openmp). Time: three values of exp per logit,
some three times that of `cross_entropy`. Memory: none beyond the buffers.
"""

# pyright: basic, reportMissingParameterType=false, reportUnknownParameterType=false, reportGeneralTypeIssues=false, reportPrivateImportUsage=false, reportCallIssue=false
# (Numba infers the types of what it compiles from the call)
from __future__ import annotations

import numpy as np
from numba import carray

from model.machine.kernels import (
    IGNORE,
    N_ARGUMENTS,
    ONE,
    ZERO,
    bf16_at,
    decode_float,
    exp,
    f32,
    f32_at,
    get_rows,
    get_thread,
    i64_at,
    load,
    store,
)


def soft_cross_entropy(a):
    """Turn logits [N V] into the slope of the mixed loss times `scale` and the target's weight, in place; write the weighted loss
    of each target (0 and no gradient where there is none). Address 0 for weights: all are 1."""
    a = carray(a, (N_ARGUMENTS,))
    n, v, scale = a[0], a[1], decode_float(a[2])
    logits, targets, nats, scratch = bf16_at(a[3]), i64_at(a[4]), f32_at(a[5]), f32_at(a[6])
    weights, has_weights = f32_at(a[7]), a[7] != 0
    top, share, temperature = a[8], decode_float(a[9]), decode_float(a[10])
    ids, log_probs = i64_at(a[11]), f32_at(a[12])
    start, stop = get_rows(a, n)
    buffer, inverse = get_thread(a) * v, ONE / temperature
    for i in range(start, stop):
        row, target, first = i * v, targets[i], i * top
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
            value = load(logits[row + j]) - highest
            total += exp(value)
            scratch[buffer + j] = exp(value * inverse)
        loss = f32(np.log(total)) + highest - load(logits[row + target])
        kept, mass = ZERO, ZERO
        for j in range(first, first + top):
            kept += scratch[buffer + ids[j]]
            scratch[buffer + ids[j]] = ZERO
            mass += exp(log_probs[j])
        rest = ZERO
        for j in range(v):
            rest += scratch[buffer + j]
        soft_total, teacher_rest = rest + kept, max(ONE - mass, ZERO)
        log_total, divergence, ratio = f32(np.log(soft_total)), ZERO, ZERO
        if rest > ZERO and teacher_rest > ZERO:
            ratio = teacher_rest / rest
            divergence = teacher_rest * (f32(np.log(ratio)) + log_total)
        weight = weights[i] if has_weights else ONE
        soft_slope, hard_slope = scale * weight * share * temperature, scale * weight * (ONE - share)
        factor = soft_slope * (ONE / soft_total - ratio)
        for j in range(v):
            scratch[buffer + j] *= factor
        for j in range(first, first + top):
            student = (load(logits[row + ids[j]]) - highest) * inverse - log_total
            chance = exp(log_probs[j])
            divergence += chance * (log_probs[j] - student)
            scratch[buffer + ids[j]] = soft_slope * (exp(student) - chance)
        nats[i] = weight * ((ONE - share) * loss + share * temperature * temperature * divergence)
        scratch[buffer + target] -= hard_slope
        factor = hard_slope / total
        for j in range(v):
            logits[row + j] = store(scratch[buffer + j] + exp(load(logits[row + j]) - highest) * factor)

"""Round weight matrices to 8 or 4 bits in groups of 32, in the block layouts Q8_0 and Q4_0 of GGUF (llama.cpp).

In: matrices [output, input] in fp32. Out: integers and one fp16 scale per group of 32 inputs; a weight is integer × scale. The same
integers and scales are computed with by model.inference.decoder and written by model.export.gguf. int8: 8.5 bits per weight,
integers -127 … 127, scale = absmax / 127. int4: 4.5 bits, integers -8 … 7, and the scale with the smallest squared error among
`N_TRIALS` of either sign (one side of zero has a level more), each refined by least squares: a tenth less squared error than the
absmax / 8 of llama.cpp's own quantizer.

With int4, the embedding table and the output projection are int8: in a small model they hold a third of the weights, and rounding
them to 4 bits costs as many bits per byte as all layers together (docs/quantization.md). Vectors (norms) stay fp32. Memory: some
copies of one matrix. Time: about 0.1 µs per weight for int4.

Papers: Dettmers et al. 2022 (8-bit Optimizers via Block-wise Quantization): a scale per block bounds what an outlier costs.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.network.config import ModelConfig

if TYPE_CHECKING:
    import torch

    from model.network.transformer import Transformer

GROUP = 32  # weights per scale, along the inputs
FORMATS = ("float32", "bfloat16", "int8", "int4")  # of weights in memory, for inference
# Bits per weight of tables and of all other matrices, with their scales.
BITS = {"float32": (32, 32), "bfloat16": (16, 16), "int8": (8.5, 8.5), "int4": (8.5, 4.5)}
N_TRIALS = 16
TRIAL_RANGE = (0.7, 1.1)  # of the scale of absmax / 8

Floats = NDArray[np.float32]


class Quantized(NamedTuple):
    """A matrix as `integers` [output, input] and fp16 `scales` [output, input / 32]; `bits` is 8 or 4."""

    integers: NDArray[np.int8]
    scales: NDArray[np.float16]
    bits: int


def check_weights(weights: str, config: ModelConfig) -> None:
    """Raise ValueError for an unknown format, or for a model whose rows are not whole groups."""
    if weights not in FORMATS:
        raise ValueError(f"weights must be one of {', '.join(FORMATS)}; found {weights!r}; use one of them.")
    if weights in ("int8", "int4"):
        check_widths(weights, config, "use float32 or bfloat16.")


def check_widths(kind: str, config: ModelConfig, instead: str) -> None:
    """Raise ValueError, ending with what to do `instead`, for a model whose rows are not whole groups."""
    widths = {
        "model.d_model": config.d_model,
        "model.d_ff": config.d_ff,
        "model.n_head × d_head": config.n_head * config.d_head,
    }
    bad = [f"{name} = {width}" for name, width in widths.items() if width % GROUP]
    if bad:
        raise ValueError(f"{kind} needs widths that are multiples of {GROUP}; found {', '.join(bad)}; {instead}")


def count_weight_bytes(config: ModelConfig, weights: str) -> int:
    """Return the memory of a model's weights in a format."""
    n_tables = config.n_embedding_parameters * (1 if config.is_tied else 2)
    n_vectors = config.n_layer * 2 * (config.d_model + config.d_head) + config.d_model
    n_matrices = config.n_parameters - n_tables - n_vectors
    table_bits, matrix_bits = BITS[weights]
    return int(n_tables * table_bits + n_matrices * matrix_bits) // 8 + 4 * n_vectors


def is_wide_table(name: str) -> bool:
    """Return whether a tensor is the embedding table or the output projection, which are never rounded to 4 bits."""
    return name in ("embedding.weight", "head.weight")


def quantize(matrix: Floats, bits: int) -> Quantized:
    """Round a matrix to the nearest multiples of its groups' scales."""
    groups = np.ascontiguousarray(matrix, np.float32).reshape(len(matrix), -1, GROUP)
    scales = _fit_int4_scales(groups) if bits == 4 else _fit_int8_scales(groups)
    return Quantized(_round(groups, scales, bits).astype(np.int8).reshape(matrix.shape), scales, bits)


def dequantize(quantized: Quantized) -> Floats:
    """Return the matrix that the integers and scales stand for, exact in fp32."""
    scales = quantized.scales.astype(np.float32).repeat(GROUP, axis=1)
    return quantized.integers.astype(np.float32) * scales


def to_gguf_blocks(quantized: Quantized) -> NDArray[np.uint8]:
    """Return rows of Q8_0 blocks (scale, 32 bytes) or Q4_0 blocks (scale, 16 bytes: weight j is the lower half of byte j, weight
    j + 16 the upper one, each plus 8)."""
    n = len(quantized.integers)
    integers = quantized.integers.reshape(n, -1, GROUP)
    if quantized.bits == 4:
        nibbles = (integers + np.int8(8)).astype(np.uint8)
        values: NDArray[np.uint8] = nibbles[..., : GROUP // 2] | nibbles[..., GROUP // 2 :] << np.uint8(4)
    else:
        values = integers.view(np.uint8)
    scales = quantized.scales[..., None].astype("<f2").view(np.uint8)
    return np.concatenate((scales, values), axis=-1).reshape(n, -1)


def round_weights(model: Transformer, weights: str) -> Transformer:
    """Return a copy of the model whose matrices are rounded as in a decoder with these `weights`, to measure its loss like any
    model's."""
    import torch  # here: a decoder needs no torch

    check_weights(weights, model.config)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if parameter.ndim == 2:
                parameter.copy_(_round_tensor(name, parameter, weights))
    return other


def choose_bits(name: str, weights: str) -> int:
    """Return the bits of a matrix in the formats int8 and int4."""
    return 4 if weights == "int4" and not is_wide_table(name) else 8


def _round_tensor(name: str, tensor: torch.Tensor, weights: str) -> torch.Tensor:
    if weights == "bfloat16":
        return tensor.bfloat16().float()
    if weights == "float32":
        return tensor.float()
    rounded = dequantize(quantize(tensor.detach().float().cpu().numpy(), choose_bits(name, weights)))
    return tensor.new_tensor(rounded)


def _round(groups: Floats, scales: NDArray[np.float16], bits: int) -> Floats:
    """Return the nearest integers; 0 in groups whose scale is 0."""
    steps = scales.astype(np.float32)[..., None]
    inverse = np.divide(1, steps, out=np.zeros_like(steps), where=steps != 0)
    low, high = (-8, 7) if bits == 4 else (-127, 127)
    return np.clip(np.rint(groups * inverse), low, high)


def _fit_int8_scales(groups: Floats) -> NDArray[np.float16]:
    return (np.abs(groups).max(axis=-1) / np.float32(127)).astype(np.float16)


def _fit_int4_scales(groups: Floats) -> NDArray[np.float16]:
    """Return the scale of each group with the smallest squared error: of every trial, the one that fits its integers best."""
    largest = np.abs(groups).max(axis=-1) / np.float32(8)
    best, lowest = np.zeros(largest.shape, np.float16), np.full(largest.shape, np.inf, np.float32)
    for factor in np.linspace(*TRIAL_RANGE, N_TRIALS, dtype=np.float32):
        for sign in (np.float32(1), np.float32(-1)):
            integers = _round(groups, (largest * factor * sign).astype(np.float16), 4)
            squares = np.einsum("ogi,ogi->og", integers, integers)
            fitted = np.einsum("ogi,ogi->og", integers, groups) / np.maximum(squares, 1)  # least squares
            scales = fitted.astype(np.float16)
            error = groups - _round(groups, scales, 4) * scales.astype(np.float32)[..., None]
            errors = np.einsum("ogi,ogi->og", error, error)
            is_better = errors < lowest
            best, lowest = np.where(is_better, scales, best), np.where(is_better, errors, lowest)
    return best

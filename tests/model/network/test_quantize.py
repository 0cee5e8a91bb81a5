"""Rounded weights are the nearest multiples of their scales, in gguf's block layouts."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.network.config import ModelConfig
from model.network.quantize import (
    BITS,
    FORMATS,
    choose_bits,
    count_weight_bytes,
    dequantize,
    quantize,
    round_weights,
    to_gguf_blocks,
)
from model.network.transformer import Transformer

SIZES = {"vocab_size": 40, "seq_len": 16, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "d_head": 8, "d_ff": 96}


def draw(kind: str) -> NDArray[np.float32]:
    """Return a matrix of 6 × 96: normal, with an outlier in every group, or partly zeros."""
    matrix = np.random.default_rng(1).standard_normal((6, 96), np.float32)
    if kind == "outliers":
        matrix[:, ::32] *= 50
    if kind == "zeros":
        matrix[:, :32] = 0
    return matrix


@pytest.mark.parametrize("kind", ["normal", "outliers", "zeros"])
@pytest.mark.parametrize("bits", [8, 4])
def test_every_weight_is_within_half_a_step(kind: str, bits: int) -> None:
    matrix = draw(kind)
    quantized = quantize(matrix, bits)
    steps = np.abs(quantized.scales.astype(np.float32)).repeat(32, axis=1)
    low, high = (-8, 7) if bits == 4 else (-127, 127)
    is_inside = (np.abs(quantized.integers) < high) & (quantized.integers > low)
    error = np.abs(dequantize(quantized) - matrix)
    assert (error[is_inside] <= steps[is_inside] * 0.501).all()
    assert ((quantized.integers >= low) & (quantized.integers <= high)).all()
    if kind == "zeros":
        assert not dequantize(quantized)[:, :32].any()


@pytest.mark.parametrize(("bits", "name"), [(8, "Q8_0"), (4, "Q4_0")])
def test_blocks_are_gguf_s_and_no_worse_than_its_own_rounding(bits: int, name: str) -> None:
    matrix, kind = draw("normal"), gguf.GGMLQuantizationType[name]
    quantized = quantize(matrix, bits)
    assert np.array_equal(gguf.quants.dequantize(to_gguf_blocks(quantized), kind), dequantize(quantized))
    theirs = gguf.quants.dequantize(gguf.quants.quantize(matrix, kind), kind)
    errors = [((each - matrix) ** 2).sum() for each in (dequantize(quantized), theirs)]
    assert errors[0] <= errors[1] * (1.001 if bits == 8 else 0.93)


@pytest.mark.parametrize("is_tied", [True, False])
@pytest.mark.parametrize("weights", FORMATS)
def test_the_memory_of_weights_is_that_of_their_blocks(is_tied: bool, weights: str) -> None:
    model = Transformer(ModelConfig(**SIZES, d_model=64, is_tied=is_tied))
    n_bytes = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and weights.startswith("int"):
            n_bytes += to_gguf_blocks(quantize(parameter.detach().numpy(), choose_bits(name, weights))).nbytes
        else:
            n_bytes += parameter.numel() * (2 if parameter.ndim == 2 and weights == "bfloat16" else 4)
    assert count_weight_bytes(model.config, weights) == n_bytes
    assert list(BITS) == list(FORMATS)


def test_rounding_changes_matrices_only_and_not_the_model_itself() -> None:
    model = Transformer(ModelConfig(**SIZES, d_model=64))
    with torch.no_grad():
        for parameter in model.parameters():  # some matrices are zeros at first
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    rounded = dict(round_weights(model, "int4").named_parameters())
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert torch.equal(rounded[name], parameter) == (parameter.ndim == 1)
    assert all(
        torch.equal(p, q) for p, q in zip(round_weights(model, "float32").parameters(), model.parameters(), strict=True)
    )

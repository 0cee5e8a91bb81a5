"""The kernel's matrix product is correct, and a row's result does not depend on its tile."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.inference import forward as kernels
from model.inference.decoder import pack_layer
from model.inference.forward import at, multiply, pack, round_up_to_lanes
from model.network.quantize import FORMATS, dequantize, quantize

Floats = NDArray[np.float32]


def multiply_with_kernel(x: Floats, matrix: Floats, weights: str) -> Floats:
    """Multiply with the kernel; the matrix is the second of two layers."""
    n_out = len(matrix)
    values, scales = (np.stack([np.zeros_like(part), part]) for part in pack_layer("down", matrix, weights))
    y = np.full((len(x), round_up_to_lanes(n_out)), np.nan, np.float32)
    multiply(x, values, scales, 1, y)
    return y[:, :n_out]


def round_matrix(matrix: Floats, weights: str) -> Floats:
    """Return the values that the kernel computes with."""
    if weights in ("int8", "int4"):
        return dequantize(quantize(matrix, int(weights[3:])))
    return torch.from_numpy(matrix).to(getattr(torch, weights)).float().numpy()


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(1, 21),
    n_out=st.integers(1, 150),
    n_groups=st.integers(1, 4),
    n_rest=st.integers(0, 31),
    n_spare=st.integers(0, 3),
    weights=st.sampled_from(FORMATS),
)
def test_the_product_is_correct_and_rows_are_independent(
    n_rows: int, n_out: int, n_groups: int, n_rest: int, n_spare: int, weights: str
) -> None:
    chance = np.random.default_rng(n_rows * n_out + n_groups)
    n_in = n_groups * 32 + (0 if weights.startswith("int") else n_rest)
    matrix = chance.standard_normal((n_out, n_in), np.float32)
    x = chance.standard_normal((n_rows, n_in + n_spare), np.float32)  # rows may be longer than the inputs
    product = multiply_with_kernel(x, matrix, weights)
    expected = x[:, :n_in].astype(float) @ round_matrix(matrix, weights).astype(float).T
    assert np.allclose(product, expected, atol=1e-4)
    for row in range(n_rows):
        assert np.array_equal(multiply_with_kernel(x[row : row + 1], matrix, weights)[0], product[row])


def test_packing_keeps_every_value() -> None:
    matrix = np.arange(37 * 5, dtype=np.float32).reshape(37, 5)
    packed = pack(matrix)
    assert packed.shape == (3, 5, 16)
    assert np.array_equal(packed.transpose(0, 2, 1).reshape(48, 5)[:37], matrix)
    assert not packed[2, :, 5:].any()


@pytest.mark.parametrize("weights", FORMATS)
def test_narrow_registers_give_the_same_product(weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AVX-512 a tile consists of smaller ones, and 4-bit integers are unpacked without a table."""
    chance = np.random.default_rng(1)
    matrix, x = chance.standard_normal((32, 64), np.float32), chance.standard_normal((7, 64), np.float32)
    expected = multiply_with_kernel(x, matrix, weights)
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", dict)
    tile = kernels._make_tile(8, 2)

    @numba.njit
    def multiply_narrow(x: Any, w: Any, scales: Any, y: Any) -> None:
        width = w.shape[1] * 16
        tile(at(x, 0), x.shape[1], len(x), at(w, 0), width, 16, x.shape[1], at(scales, 0), at(y, 0), y.shape[1])

    y = np.zeros((8, 32), np.float32)
    multiply_narrow(x, *pack_layer("down", matrix, weights), y)
    assert np.array_equal(y[:7], expected)
    assert not y[7].any()

"""The kernel's matrix product is correct, and a row's result does not depend on its tile."""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.inference import forward as kernels
from model.inference.forward import at, multiply, pack, round_up_to_lanes


def multiply_with_kernel(
    x: NDArray[np.float32], matrix: NDArray[Any], scales: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Multiply with the kernel; the matrix is the second of two layers."""
    n_out = len(matrix)
    sizes = np.zeros((2, round_up_to_lanes(n_out)), np.float32)
    sizes[1, :n_out] = scales
    y = np.full((len(x), round_up_to_lanes(n_out)), np.nan, np.float32)
    multiply(x, np.stack([np.zeros_like(pack(matrix)), pack(matrix)]), sizes, 1, y)
    return y[:, :n_out]


@settings(max_examples=60, deadline=None)
@given(
    n_rows=st.integers(1, 21),
    n_out=st.integers(1, 150),
    n_in=st.integers(1, 70),
    n_spare=st.integers(0, 3),
    dtype=st.sampled_from([np.float32, np.int8]),
)
def test_the_product_is_correct_and_rows_are_independent(
    n_rows: int, n_out: int, n_in: int, n_spare: int, dtype: Any
) -> None:
    chance = np.random.default_rng(n_rows * n_out + n_in)
    matrix = chance.integers(-127, 128, (n_out, n_in)).astype(dtype)
    scales = chance.random(n_out, np.float32) if dtype == np.int8 else np.ones(n_out, np.float32)
    x = chance.standard_normal((n_rows, n_in + n_spare), np.float32)  # rows may be longer than the inputs
    product = multiply_with_kernel(x, matrix, scales)
    expected = x[:, :n_in].astype(float) @ (matrix * scales[:, None].astype(float)).T
    assert np.allclose(product, expected, atol=1e-2)
    for row in range(n_rows):
        assert np.array_equal(multiply_with_kernel(x[row : row + 1], matrix, scales)[0], product[row])


def test_packing_keeps_every_value() -> None:
    matrix = np.arange(37 * 5, dtype=np.float32).reshape(37, 5)
    packed = pack(matrix)
    assert packed.shape == (3, 5, 16)
    assert np.array_equal(packed.transpose(0, 2, 1).reshape(48, 5)[:37], matrix)
    assert not packed[2, :, 5:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.int8])
def test_narrow_registers_give_the_same_product(dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without AVX-512 a tile consists of smaller ones."""
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", dict)
    tile = kernels._make_tile(8, 2)

    @numba.njit
    def multiply_narrow(x: Any, w: Any, scales: Any, y: Any) -> None:
        tile(
            at(x, 0), x.shape[1], len(x), at(w, 0), w.shape[1] * 16, 16, w.shape[1], at(scales, 0), at(y, 0), y.shape[1]
        )

    chance = np.random.default_rng(1)
    matrix = chance.integers(-127, 128, (32, 40)).astype(dtype)
    scales = chance.random(32, np.float32) if dtype == np.int8 else np.ones(32, np.float32)
    x, y = chance.standard_normal((7, 40), np.float32), np.zeros((8, 32), np.float32)
    multiply_narrow(x, pack(matrix), scales, y)
    assert np.array_equal(y[:7], multiply_with_kernel(x, matrix, scales))
    assert not y[7].any()

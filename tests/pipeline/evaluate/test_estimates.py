"""Estimates: values and standard errors against identities and repeated draws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluate.estimates import estimate_bits_per_byte, estimate_by_source, estimate_fraction


def test_bits_per_byte_of_equal_documents_has_no_error() -> None:
    estimate = estimate_bits_per_byte([math.log(2) * 10] * 4, [5] * 4)
    assert estimate.value == pytest.approx(2)
    assert estimate.se == pytest.approx(0)
    assert estimate_bits_per_byte([1.0], [4]).se == 0


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(1)
    means: list[float] = []
    errors: list[float] = []
    for _ in range(400):
        sizes = rng.integers(50, 500, 60)
        estimate = estimate_bits_per_byte(list(sizes * 0.7 + rng.normal(0, 20, 60)), sizes.tolist())
        means.append(estimate.value)
        errors.append(estimate.se)
    assert np.std(means) == pytest.approx(float(np.mean(errors)), rel=0.15)


def test_sources_weighted_by_bytes_add_up_to_the_whole() -> None:
    nats, sizes, sources = [1.0, 2.0, 3.0, 4.0], [3, 4, 5, 6], ["a", "b", "a", "b"]
    parts = estimate_by_source(sources, nats, sizes)
    assert list(parts) == ["a", "b"]
    whole = estimate_bits_per_byte(nats, sizes)
    weighted = parts["a"].value * 8 + parts["b"].value * 10
    assert whole.value == pytest.approx(weighted / 18)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_a_fraction_has_an_error_even_if_all_or_none_are_right(values: list[bool]) -> None:
    fraction = estimate_fraction(values)
    assert fraction.value == sum(values) / len(values)
    assert 0 < fraction.se < 0.5
    assert fraction.n == len(values)

"""Estimates: values and standard errors against identities and repeated draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluate.estimates import estimate_fraction, estimate_ratio


def test_bits_per_byte_of_equal_documents_has_no_error() -> None:
    estimate = estimate_ratio([10.0] * 4, [5] * 4, list("abcd"))
    assert estimate.value == pytest.approx(2)
    assert estimate.se == pytest.approx(0)
    assert estimate_ratio([1.0], [4], ["a"]).se == 0


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    rng = np.random.default_rng(1)
    means: list[float] = []
    errors: list[float] = []
    for _ in range(400):
        sizes = rng.integers(50, 500, 60)
        groups = [str(number) for number in range(60)]
        estimate = estimate_ratio(list(sizes * 0.7 + rng.normal(0, 20, 60)), sizes.tolist(), groups)
        means.append(estimate.value)
        errors.append(estimate.se)
    assert np.std(means) == pytest.approx(float(np.mean(errors)), rel=0.15)


def test_the_standard_error_of_dependent_items_is_that_of_repeated_draws_of_groups() -> None:
    rng = np.random.default_rng(2)
    means: list[float] = []
    errors: list[float] = []
    groups = [str(number // 5) for number in range(200)]
    for _ in range(400):
        levels = np.repeat(rng.uniform(0, 1, 40), 5)  # the items of a group are about equally hard
        estimate = estimate_ratio((rng.uniform(0, 1, 200) < levels).astype(float).tolist(), [1.0] * 200, groups)
        means.append(estimate.value)
        errors.append(estimate.se)
    assert np.std(means) == pytest.approx(float(np.mean(errors)), rel=0.15)
    assert float(np.mean(errors)) > 1.25 * estimate_fraction([True, False] * 100).se


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abcd")), min_size=1, max_size=50))
def test_a_fraction_of_grouped_items_has_an_error_even_if_all_are_alike(values: list[tuple[bool, str]]) -> None:
    estimate = estimate_ratio(
        [float(value) for value, _ in values], [1.0] * len(values), [group for _, group in values]
    )
    assert estimate.value == pytest.approx(sum(value for value, _ in values) / len(values))
    assert 0 < estimate.se < 1
    assert estimate.n == len(values)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_a_fraction_has_an_error_even_if_all_or_none_are_right(values: list[bool]) -> None:
    fraction = estimate_fraction(values)
    assert fraction.value == sum(values) / len(values)
    assert 0 < fraction.se < 0.5
    assert fraction.n == len(values)
    assert (
        estimate_ratio([float(value) for value in values], [1.0] * len(values), list(map(str, range(len(values)))))
        == fraction
    )

"""Bands and rows are given, or derived from a number of permutations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.dedupe.minhash import signatures as minhash
from pipeline.dedupe.minhash.shingles import Shingles
from pipeline.dedupe.params import Dedupe, choose_bands

GIVEN: dict[str, Any] = {"seed": 1, "ngram_words": 5, "min_jaccard": 0.8, "source_priority": []}


@given(st.integers(2, 1_024), st.floats(0.05, 1.0), st.floats(0.01, 0.99))
def test_no_choice_with_more_rows_reaches_the_recall(
    n_permutations: int, min_jaccard: float, min_recall: float
) -> None:
    def recall(n_bands: int, n_rows: int) -> float:
        return 1 - (1 - min_jaccard**n_rows) ** n_bands

    n_bands, n_rows = choose_bands(n_permutations, min_jaccard, min_recall)
    assert 1 <= n_bands * n_rows <= n_permutations
    assert n_rows == 1 or recall(n_bands, n_rows) >= min_recall
    for more in range(n_rows + 1, min(n_permutations, 64) + 1):
        assert recall(min(512, n_permutations // more), more) < min_recall


def test_permutations_alone_are_enough() -> None:
    params = Dedupe(**GIVEN, n_permutations=128)
    assert (params.n_bands, params.n_rows) == (18, 7)
    assert Dedupe.model_validate(params.model_dump()) == params


def test_bands_and_permutations_must_agree() -> None:
    with pytest.raises(ValidationError, match="not both"):
        Dedupe(**GIVEN, n_permutations=128, n_bands=14, n_rows=8)
    with pytest.raises(ValidationError, match="n_bands"):
        Dedupe(**GIVEN)


@pytest.mark.parametrize("wrong", [{"n_permutations": "128"}, {"n_permutations": 128, "min_recall": 2.0}])
def test_wrong_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=list(wrong)[-1]):
        Dedupe(**GIVEN, **wrong)


def test_the_fraction_of_pairs_found_follows_the_formula() -> None:
    """Compare 2,000 pairs at Jaccard 0.8 with 1 - (1 - 0.8^7)^18, within four standard errors."""
    rng, n_pairs, n_bands, n_rows = np.random.default_rng(1), 2_000, 18, 7
    numbers = rng.integers(0, 2**64, (n_pairs, 100), np.uint64)
    sets = [row for both in numbers for row in (both[:90], both[10:])]  # 80 of 100 are shared
    shingles = Shingles(np.concatenate(sets), np.arange(2 * n_pairs + 1) * 90)
    keys = minhash.compute_band_keys(
        minhash.compute_signatures(shingles, minhash.draw_permutations(n_bands * n_rows, 1)), n_bands, n_rows
    )
    fraction = float((keys[::2] == keys[1::2]).any(axis=1).mean())
    expected = 1 - (1 - 0.8**n_rows) ** n_bands
    assert abs(fraction - expected) < 4 * (expected * (1 - expected) / n_pairs) ** 0.5

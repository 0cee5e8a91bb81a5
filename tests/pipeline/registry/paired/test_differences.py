"""Paired differences: equal to what the definitions and McNemar's exact test say, and honest about seeds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binomtest

from pipeline.registry.paired.differences import (
    Difference,
    ItemScores,
    Noise,
    add_noise,
    adjust_p_values,
    compare_items,
    compare_values,
)

SEEDS = st.integers(0, 2**32 - 1)


def make_scores(
    values: NDArray[np.float64], sizes: NDArray[np.float64] | None = None, n_per_group: int = 1
) -> ItemScores:
    ids = np.array([f"{i:06d}" for i in range(len(values))])
    groups = np.array([f"{i // n_per_group:06d}" for i in range(len(values))])
    return ItemScores(ids, groups, values, np.ones(len(values)) if sizes is None else sizes)


def compare(candidate: ItemScores, champion: ItemScores, noise: Noise | None = None) -> Difference:
    difference = compare_items(candidate, champion, noise)
    assert difference is not None
    return difference


def make_discordant(n: int, n_gained: int, n_lost: int) -> tuple[ItemScores, ItemScores]:
    """Return two models that are right on half of `n` items, but for those gained and lost."""
    champion = np.tile([0.0, 1.0], n // 2)
    candidate = champion.copy()
    candidate[: 2 * n_gained : 2] = 1.0
    candidate[1 : 2 * n_lost : 2] = 0.0
    return make_scores(candidate), make_scores(champion)


@pytest.mark.parametrize(("n_gained", "n_lost"), [(4, 0), (6, 0), (9, 0), (12, 0), (12, 3), (20, 10), (30, 10)])
def test_p_values_agree_with_mcnemars_exact_test(n_gained: int, n_lost: int) -> None:
    ours = compare(*make_discordant(200, n_gained, n_lost)).p_better
    exact = binomtest(n_gained, n_gained + n_lost, alternative="greater").pvalue
    assert 0.5 < ours / exact < 2.0


@given(SEEDS, st.integers(20, 300), st.booleans())
def test_gains_and_losses_mirror_each_other(seed: int, n: int, is_ratio: bool) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5000, n).astype(float) if is_ratio else None
    a, b = (make_scores(rng.random(n) * (1.0 if sizes is None else sizes), sizes) for _ in range(2))
    there, back = compare(a, b), compare(b, a)
    assert there.gain == pytest.approx(-back.gain)
    assert there.p_better == pytest.approx(back.p_worse)
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.gain == pytest.approx(a.value - b.value)


def test_a_copy_is_neither_better_nor_worse() -> None:
    scores = make_scores(np.random.default_rng(1).random(50))
    copy = compare(scores, scores)
    assert (copy.gain, copy.p_better, copy.p_worse) == (0.0, 0.5, 0.5)
    right = make_scores(np.ones(50))
    assert compare(right, right).interval[1] > 0.01, "fifty items without a difference do not prove that there is none"


def test_less_bits_are_a_gain() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(50, 5000, 300).astype(float)
    bits = sizes * (1.4 + 0.1 * rng.standard_normal(300))
    champion = replace(make_scores(bits, sizes), is_lower_better=True)
    candidate = replace(champion, scores=bits * 0.99)
    difference = compare(candidate, champion)
    assert difference.gain == pytest.approx(0.01 * champion.value)
    assert difference.p_better < 1e-6


def test_the_standard_error_is_that_of_repeated_draws_also_in_groups() -> None:
    """Turns of a conversation that go wrong together."""
    rng, differences, errors = np.random.default_rng(0), list[float](), list[float]()
    for _ in range(400):
        a, b = (np.repeat(rng.random(60) < 0.7, 4).astype(float) for _ in range(2))
        found = compare(make_scores(a, n_per_group=4), make_scores(b, n_per_group=4))
        differences.append(found.gain)
        errors.append(found.se)
    assert np.mean(errors) == pytest.approx(np.std(differences), rel=0.1)


def test_only_common_items_of_the_same_size_are_compared() -> None:
    champion = make_scores(np.zeros(100), np.full(100, 7.0))
    sizes = np.where(np.arange(100) < 60, 7.0, 8.0)
    changed = ItemScores(champion.ids, champion.groups, np.arange(100.0), sizes)
    assert compare(changed, champion).n_items == 60
    others = ItemScores(np.array([f"x{i}" for i in range(100)]), champion.groups, champion.scores, champion.sizes)
    assert compare_items(others, champion, None) is None
    few = ItemScores(champion.ids[:5], champion.groups[:5], champion.scores[:5], champion.sizes[:5])
    mixed = ItemScores(np.append(others.ids, few.ids), np.append(others.ids, few.ids), np.zeros(105), np.full(105, 7.0))
    assert compare_items(mixed, champion, None) is None, "five common items of a hundred"


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_not_compared(broken: float) -> None:
    values = np.ones(30)
    champion = make_scores(values)
    values = values.copy()
    values[3] = broken
    assert compare_items(make_scores(values), champion, None) is None
    assert compare_values((broken, 0.1), (1.0, 0.1), None, is_lower_better=False) is None


def test_noise_widens_the_interval_and_costs_degrees_of_freedom() -> None:
    candidate, champion = make_discordant(200, 12, 3)
    plain, noisy = compare(candidate, champion), compare(candidate, champion, Noise(0.015, 5))
    assert noisy.se == pytest.approx(math.sqrt(plain.se**2 + 1.5 * 0.015**2)), "a quarter may be chance among the items"
    assert add_noise(1e-9, math.inf, Noise(0.1, 5))[0] == pytest.approx(math.sqrt(0.02)), "no chance among the items"
    assert 4 < noisy.df < plain.df
    assert noisy.p_better > plain.p_better
    assert add_noise(0.0, math.inf, Noise(0.1, 5))[1] == pytest.approx(4.0)
    unpaired = compare_values((0.9, 0.01), (0.8, 0.01), None, is_lower_better=False)
    assert unpaired is not None
    assert unpaired.p_better == pytest.approx(float(ndtr(-0.1 / math.sqrt(2e-4))))


@pytest.mark.parametrize("common", [0.0, 0.3, 1.0, 2.0, 4.0])
def test_two_seeds_of_one_recipe_differ_significantly_no_more_often_than_the_level(common: float) -> None:
    """`common`: how far seeds differ in all items alike, in standard errors over items; five other seeds measured the noise."""
    rng, level, n_wrong, n = np.random.default_rng(int(10 * common)), 0.01, 0, 4000
    for _ in range(n):
        seeds = rng.normal(0, math.sqrt(common**2 + 0.5), 5)
        variance = float(rng.chisquare(199)) / 199
        se, df = add_noise(variance, 199, Noise(float(seeds.std(ddof=1)), 5))
        gain = rng.normal(0, math.sqrt(1 + 2 * common**2))
        n_wrong += Difference(gain, se, df, 200).p_better <= level
    assert n_wrong / n < 2 * level


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusted_p_values_are_holms(p_values: list[float]) -> None:
    adjusted = adjust_p_values(np.array(p_values))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        assert adjusted[index] == pytest.approx(running)
    assert (adjusted >= np.array(p_values)).all()

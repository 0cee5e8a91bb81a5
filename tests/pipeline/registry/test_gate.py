"""The gate as properties: what always passes, what never does, and what the decision table says."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame.errors import UserError
from pipeline.registry.gate import Check, Measurements, judge
from pipeline.registry.paired.differences import ItemScores
from pipeline.registry.params import Registry, SeedNoise

POLICY = Registry(
    goals=["bpb"], false_promotion=0.05, false_refusal=0.1, when_equal="keep", noise=None, max_skill_drop={}
)
SKILL = "quote_exact_frac"
SEEDS = st.integers(0, 2**32 - 1)


def make_bits(seed: int, n: int = 200, bpb: float = 1.4, spread: float = 0.1) -> ItemScores:
    """Return bits and bytes of `n` documents; ids and sizes do not depend on the seed."""
    rng = np.random.default_rng(seed)
    n_bytes = np.random.default_rng(0).integers(50, 5_000, n).astype(float)
    ids = np.array([f"{i:032x}" for i in range(n)])
    return ItemScores(ids, ids, n_bytes * (bpb + spread * rng.standard_normal(n)), n_bytes, is_lower_better=True)


def make_answers(n_right: int, n: int = 200) -> ItemScores:
    ids = np.array([f"item-{i:05d}" for i in range(n)])
    return ItemScores(ids, ids, (np.arange(n) < n_right).astype(float), np.ones(n))


def measure(bits: ItemScores, answers: ItemScores | None = None, **metrics: float) -> Measurements:
    items = {"bpb": bits, **({SKILL: answers} if answers else {})}
    return Measurements({name: each.value for name, each in items.items()} | metrics, items)


def measure_many(answers: ItemScores) -> Measurements:
    """Return a skill beside thirty other metrics."""
    plain = measure(make_bits(1), answers)
    return Measurements(plain.metrics, {**plain.items, **{f"other_{i}_frac": make_answers(100) for i in range(30)}})


def scale(bits: ItemScores, factor: float) -> ItemScores:
    return replace(bits, scores=bits.scores * factor)


def get_row(policy: Registry, candidate: Measurements, champion: Measurements | None, name: str) -> Check:
    return next(check for check in judge(policy, candidate, champion).checks if check.name == name)


@given(SEEDS, st.integers(1, 300), st.integers(0, 200))
def test_a_copy_of_the_champion_is_equal_and_the_champion_stays(seed: int, n: int, n_right: int) -> None:
    model = measure(make_bits(seed, n), make_answers(n_right))
    verdict = judge(POLICY, model, model)
    assert (verdict.outcome, verdict.is_passed) == ("equal", False)
    assert "registry.when_equal: keep" in verdict.reason
    assert judge(POLICY.model_copy(update={"when_equal": "promote"}), model, model).is_passed


@given(SEEDS, st.floats(1.02, 3.0))
def test_a_clearly_worse_model_is_refused_with_the_reason(seed: int, factor: float) -> None:
    champion = make_bits(seed)
    for policy in (POLICY, POLICY.model_copy(update={"when_equal": "promote"})):
        verdict = judge(policy, measure(scale(champion, factor)), measure(champion))
        assert (verdict.outcome, verdict.is_passed) == ("worse", False)
        assert verdict.reason.startswith("worse: bpb ")


@given(SEEDS, st.floats(0.3, 0.98))
def test_a_clearly_better_model_passes(seed: int, factor: float) -> None:
    champion = make_bits(seed)
    verdict = judge(POLICY, measure(scale(champion, factor)), measure(champion))
    assert (verdict.outcome, verdict.is_passed) == ("better", True)
    assert verdict.reason.startswith("better: bpb ")


def test_what_is_better_in_one_metric_and_worse_in_another_is_refused() -> None:
    champion = measure(make_bits(1), make_answers(180))
    verdict = judge(POLICY, measure(scale(make_bits(1), 0.9), make_answers(150)), champion)
    assert (verdict.outcome, verdict.is_passed) == ("worse", False)
    assert [check.verdict for check in verdict.checks] == ["better", "worse"]
    assert SKILL in verdict.reason


def test_a_skill_alone_makes_a_better_model() -> None:
    champion = measure(make_bits(1), make_answers(150))
    verdict = judge(POLICY, measure(make_bits(1), make_answers(170)), champion)
    assert (verdict.outcome, verdict.is_passed) == ("better", True)


def test_a_row_has_difference_and_interval_in_the_metrics_own_direction() -> None:
    champion, candidate = make_bits(1), scale(make_bits(1), 0.9)
    row = get_row(POLICY, measure(candidate), measure(champion), "bpb")
    assert row.champion == pytest.approx(champion.value)
    assert row.candidate == pytest.approx(candidate.value)
    assert row.change == pytest.approx(candidate.value - champion.value)
    assert row.interval is not None
    assert row.change is not None
    assert row.interval[0] < row.change < row.interval[1] < 0
    assert row.rule == "paired over 200 items, seed noise unknown"


def test_the_noise_of_seeds_is_counted() -> None:
    champion, candidate = measure(make_bits(1)), measure(scale(make_bits(1), 0.995))
    assert judge(POLICY, candidate, champion).outcome == "better"
    noisy = POLICY.model_copy(update={"noise": SeedNoise(n_seeds=5, sd={"bpb": 0.01})})
    assert judge(noisy, candidate, champion).outcome == "equal"
    assert "seed noise 0.0100" in get_row(noisy, candidate, champion, "bpb").rule


def test_a_single_metric_among_many_needs_more_than_its_own_interval() -> None:
    champion, candidate = measure_many(make_answers(190)), measure_many(make_answers(195))
    row = get_row(POLICY, candidate, champion, SKILL)
    assert row.interval is not None
    assert row.interval[0] > 0
    assert (row.verdict, row.rule.rpartition("; ")[2]) == ("equal", "not significant among all metrics")


def test_a_loss_above_the_tolerance_of_a_skill_needs_no_adjustment() -> None:
    champion, candidate = measure_many(make_answers(190)), measure_many(make_answers(183))
    assert get_row(POLICY, candidate, champion, SKILL).verdict == "equal"
    strict = POLICY.model_copy(update={"max_skill_drop": {SKILL: 0.03}})
    row = get_row(strict, candidate, champion, SKILL)
    assert (row.verdict, row.rule.rpartition("; ")[2]) == ("worse", "lost more than its tolerance of 0.03")


def test_versions_without_items_are_compared_by_their_standard_errors() -> None:
    """What earlier releases have published; the rule is in the table."""
    old = Measurements({"bpb": 1.4, "bpb_se": 0.016, SKILL: 0.9, f"{SKILL}_se": 0.02}, {})
    candidate = measure(make_bits(1, bpb=1.2), make_answers(181), bpb_se=0.016, **{f"{SKILL}_se": 0.02})
    verdict = judge(POLICY, candidate, old)
    assert verdict.outcome == "better"
    rows = {check.name: check for check in verdict.checks}
    assert rows["bpb"].rule == "unpaired: the champion has no scores by item, seed noise unknown"
    assert (rows["bpb"].verdict, rows[SKILL].verdict) == ("better", "equal")
    older = Measurements({"bpb": 1.4}, {})
    row = get_row(POLICY, candidate, older, "bpb")
    assert (row.verdict, row.rule) == ("not compared", "the champion has no scores by item, and no standard errors")


def test_other_items_are_compared_by_their_standard_errors() -> None:
    champion = make_bits(1)
    renamed = replace(champion, ids=np.char.add("x", champion.ids))
    row = get_row(POLICY, measure(renamed, bpb_se=0.01), measure(champion, bpb_se=0.01), "bpb")
    assert row.rule.startswith("unpaired: too few items in common")
    assert row.verdict == "equal"


def test_few_items_in_common_tell_less_than_all_of_both() -> None:
    def measure_with(n_common: int) -> Check:
        ids = np.array([f"item-{i:05d}" if i < n_common else f"new-{i}" for i in range(200)])
        candidate = replace(make_answers(180), ids=ids, groups=ids)
        errors = {f"{SKILL}_se": 0.02}
        return get_row(
            POLICY,
            measure(make_bits(1), candidate, **errors),
            measure(make_bits(1), make_answers(184), **errors),
            SKILL,
        )

    assert measure_with(20).rule.startswith("unpaired: too few items in common")
    assert measure_with(190).rule.startswith("paired over 190 items")


@given(SEEDS)
def test_without_a_champion_any_model_passes(seed: int) -> None:
    verdict = judge(POLICY, measure(make_bits(seed, 3), make_answers(0)), None)
    assert (verdict.outcome, verdict.is_passed, verdict.reason) == ("first", True, "no champion yet")


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_model_with_a_metric_that_is_not_finite_never_passes(broken: float) -> None:
    champion = measure(make_bits(1), make_answers(100))
    bits = make_bits(1)
    bits.scores[0] = broken
    for candidate in (measure(bits, make_answers(200)), measure(make_bits(1), make_answers(200), **{SKILL: broken})):
        for against in (champion, None):
            verdict = judge(POLICY.model_copy(update={"when_equal": "promote"}), candidate, against)
            assert (verdict.outcome, verdict.is_passed) == ("worse", False)
            assert "not a finite number" in verdict.reason


def test_a_metric_above_its_bound_refuses_even_the_first_model() -> None:
    """A model that was trained on the items that judge it, whatever it seems to have gained."""
    policy = POLICY.model_copy(update={"at_most": {"leaked_items_frac": 0.02}})
    for leaked, is_passed in ((0.019, True), (0.021, False), (math.nan, False)):
        model = measure(scale(make_bits(1), 0.9), leaked_items_frac=leaked)
        for champion in (None, measure(make_bits(1))):
            verdict = judge(policy, model, champion)
            assert verdict.is_passed is is_passed
            assert is_passed or verdict.reason.startswith("worse: leaked_items_frac")


def test_diagnostics_are_shown_and_decide_nothing() -> None:
    policy = POLICY.model_copy(update={"not_judged": ["quote_*", "other"]})
    champion = measure(make_bits(1), make_answers(100))
    for n_right in (10, 190):
        verdict = judge(policy, measure(make_bits(1), make_answers(n_right)), champion)
        assert verdict.outcome == "equal"
        row = next(check for check in verdict.checks if check.name == SKILL)
        assert (row.verdict, row.change) == ("not judged", pytest.approx((n_right - 100) / 200))


@pytest.mark.parametrize("setting", ["goals", "at_most", "max_skill_drop"])
def test_a_misspelt_metric_is_an_error_and_not_a_pass(setting: str) -> None:
    names = ["quote_exact"] if setting == "goals" else {"quote_exact": 0.05}
    with pytest.raises(UserError, match=rf"registry\.{setting}\.quote_exact.*\n.*{SKILL}"):
        judge(POLICY.model_copy(update={setting: names}), measure(make_bits(1), make_answers(1)), None)


def test_a_metric_that_only_one_of_both_was_measured_on_decides_nothing() -> None:
    plain, more = measure(make_bits(1)), measure(make_bits(1), make_answers(1))
    row = get_row(POLICY, more, plain, SKILL)
    assert (row.verdict, row.rule) == ("not compared", "the champion was not measured on it")
    with pytest.raises(UserError, match=f"not measured on {SKILL}, unlike"):
        judge(POLICY, plain, more)
    other = Measurements(plain.metrics, {**plain.items, "cloze_frac": make_answers(5)})
    assert get_row(POLICY, plain, other, "cloze_frac").rule == "the candidate was not measured on it"

"""The gate as properties: what always passes, and what never does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frame.errors import UserError
from pipeline.registry.gate import MIN_SHARED_DOCS, DocumentLosses, Measurements, compute_paired_difference, judge
from pipeline.registry.params import Registry

POLICY = Registry(max_bpb_z=2.0, max_bpb_increase=0.01, max_skill_drop={"quote_exact_frac": 0.05})
SEEDS = st.integers(0, 2**32 - 1)


def make_losses(seed: int, n: int = 200, bpb: float = 1.4, spread: float = 0.1) -> DocumentLosses:
    """Return the losses of a model with about `bpb` bits per byte on `n` documents; ids and sizes do not depend on the seed."""
    rng = np.random.default_rng(seed)
    n_bytes = np.random.default_rng(0).integers(50, 5_000, n)
    nats = n_bytes * math.log(2) * (bpb + spread * rng.standard_normal(n))
    return DocumentLosses(np.array([f"{i:032x}" for i in range(n)]), n_bytes, nats)


def make_measurements(docs: DocumentLosses, skill: float = 0.8) -> Measurements:
    bpb = float(docs.nats.sum() / docs.n_bytes.sum() / math.log(2))
    return Measurements({"bpb": bpb, "quote_exact_frac": skill}, docs)


def scale_losses(docs: DocumentLosses, factor: float) -> DocumentLosses:
    return DocumentLosses(docs.ids, docs.n_bytes, docs.nats * factor)


@given(SEEDS, st.integers(1, 300), st.floats(0, 1))
def test_a_copy_of_the_champion_passes(seed: int, n: int, skill: float) -> None:
    model = make_measurements(make_losses(seed, n), skill)
    assert judge(POLICY, model, model).is_passed


@given(SEEDS, st.floats(1.05, 3.0))
def test_a_clearly_worse_model_is_refused_with_the_reason(seed: int, factor: float) -> None:
    champion = make_losses(seed)
    verdict = judge(POLICY, make_measurements(scale_losses(champion, factor)), make_measurements(champion))
    assert not verdict.is_passed
    assert verdict.reason.startswith("bpb ")


@given(SEEDS, st.floats(0.3, 0.999))
def test_a_better_model_passes(seed: int, factor: float) -> None:
    champion = make_losses(seed)
    assert judge(POLICY, make_measurements(scale_losses(champion, factor)), make_measurements(champion)).is_passed


def test_a_model_worse_by_less_than_the_noise_passes() -> None:
    """Half a standard error worse, with independent noise on every document."""
    champion = make_losses(1)
    noise = make_losses(2, bpb=0.0)
    noisy = DocumentLosses(champion.ids, champion.n_bytes, champion.nats + noise.nats)
    difference, error, _ = compute_paired_difference(noisy, champion)
    shift = (0.5 * error - difference) * math.log(2) * champion.n_bytes
    candidate = DocumentLosses(champion.ids, champion.n_bytes, noisy.nats + shift)
    assert compute_paired_difference(candidate, champion)[0] == pytest.approx(0.5 * error)
    assert judge(POLICY, make_measurements(candidate), make_measurements(champion)).is_passed


def test_equally_good_models_are_refused_as_often_as_two_standard_errors_predict() -> None:
    refused = sum(
        not judge(
            POLICY, make_measurements(make_losses(2 * seed)), make_measurements(make_losses(2 * seed + 1))
        ).is_passed
        for seed in range(400)
    )
    assert 0 < refused / 400 < 0.05  # 2.3 % of a normal distribution is above two standard errors


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    pairs = [compute_paired_difference(make_losses(2 * seed), make_losses(2 * seed + 1)) for seed in range(500)]
    differences, errors = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    assert errors.mean() == pytest.approx(differences.std(), rel=0.1)


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_skill_may_drop_by_its_tolerance_and_no_more(ours: float, theirs: float) -> None:
    docs = make_losses(1)
    verdict = judge(POLICY, make_measurements(docs, ours), make_measurements(docs, theirs))
    if abs(theirs - ours - 0.05) > 1e-6:
        assert verdict.is_passed == (theirs - ours < 0.05)


@given(SEEDS)
def test_without_a_champion_any_model_passes(seed: int) -> None:
    verdict = judge(POLICY, make_measurements(make_losses(seed, 3), 0.0), None)
    assert verdict.is_passed
    assert verdict.reason == "no champion yet"


@pytest.mark.parametrize("n", [0, 1, MIN_SHARED_DOCS - 1])
def test_with_few_shared_documents_the_totals_are_compared(n: int) -> None:
    champion = make_losses(1)
    ids = np.array([*champion.ids[:n], *(f"x{i}" for i in range(200 - n))])
    candidate = DocumentLosses(ids, champion.n_bytes, champion.nats)
    bpb = make_measurements(champion).metrics["bpb"]
    for increase, passes in ((0.009, True), (0.011, False)):
        metrics = {"bpb": bpb + increase, "quote_exact_frac": 0.8}
        assert judge(POLICY, Measurements(metrics, candidate), make_measurements(champion)).is_passed is passes


def test_another_text_with_the_same_id_is_not_shared() -> None:
    champion = make_losses(1)
    changed = DocumentLosses(champion.ids, champion.n_bytes + (np.arange(200) < 150), champion.nats * 5)
    assert compute_paired_difference(changed, champion)[2] == 50


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_model_with_a_metric_that_is_not_finite_never_passes(broken: float) -> None:
    docs = make_losses(1)
    nats = docs.nats.copy()
    nats[0] = broken
    candidate = Measurements({"bpb": broken, "quote_exact_frac": 0.8}, DocumentLosses(docs.ids, docs.n_bytes, nats))
    assert not judge(POLICY, candidate, make_measurements(docs)).is_passed
    assert not judge(POLICY, candidate, None).is_passed
    assert not judge(POLICY, make_measurements(docs, math.nan), make_measurements(docs)).is_passed


def test_a_misspelt_skill_is_an_error_and_not_a_pass() -> None:
    policy = POLICY.model_copy(update={"max_skill_drop": {"quote_exact": 0.05}})
    with pytest.raises(UserError, match=r"registry\.max_skill_drop\.quote_exact.*\n.*quote_exact_frac"):
        judge(policy, make_measurements(make_losses(1)), None)


def test_a_skill_that_the_champion_was_never_asked_for_passes() -> None:
    champion = Measurements({"bpb": 1.4}, make_losses(1))
    assert judge(POLICY, make_measurements(make_losses(1, bpb=1.3)), champion).is_passed

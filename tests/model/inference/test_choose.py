"""Choosing among candidates: exact, the same on every path, whatever was cached before."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
import torch

from model.inference.choose import choose, score_candidates
from model.inference.decoder import Decoder
from model.inference.generate import TorchPrefix
from model.inference.prefix import Prefix
from model.network.transformer import Transformer
from tests.model.conftest import TINY, awake

END = 6
PROMPT = [1, 40, 41, 42]


def make_candidates(seed: int, n: int = 12) -> list[list[int]]:
    """Return candidates that share beginnings, each with END at its end."""
    rng = Random(seed)
    stems = [[rng.randrange(20, 90) for _ in range(rng.randrange(1, 6))] for _ in range(3)]
    return [[*rng.choice(stems), *(rng.randrange(20, 90) for _ in range(rng.randrange(0, 5))), END] for _ in range(n)]


def score_naively(model: Transformer, prompt: list[int], candidate: list[int]) -> float:
    ids = torch.tensor([[*prompt, *candidate]])
    with torch.no_grad():
        log_probs = model.compute_logits(model(ids))[0].double().log_softmax(-1)
    return sum(float(log_probs[len(prompt) - 1 + n, index]) for n, index in enumerate(candidate))


@pytest.fixture(scope="module")
def model() -> Transformer:
    return awake(TINY).eval()


@pytest.fixture(scope="module")
def decoder(model: Transformer) -> Decoder:
    return Decoder(model, n_slots=0)


@pytest.mark.parametrize("seed", range(6))
def test_the_choice_is_the_candidate_with_the_highest_probability(
    model: Transformer, decoder: Decoder, seed: int
) -> None:
    candidates = make_candidates(seed)
    expected = [score_naively(model, PROMPT, candidate) for candidate in candidates]
    for prefix in (decoder.new_prefix(), TorchPrefix(model)):
        choice = choose(prefix, PROMPT, candidates)
        assert choice.score == pytest.approx(max(expected), abs=1e-3)
        assert candidates[choice.index] == candidates[expected.index(max(expected))]
        scores = score_candidates(prefix, PROMPT, candidates)
        distinct = [number for number, ids in enumerate(candidates) if ids not in candidates[:number]]
        assert [scores[number] for number in distinct] == pytest.approx([expected[n] for n in distinct], abs=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_bonuses_move_the_choice_exactly(decoder: Decoder, seed: int) -> None:
    rng = Random(seed)
    candidates = list(map(list, dict.fromkeys(map(tuple, make_candidates(seed)))))
    bonuses = [rng.uniform(-3, 3) for _ in candidates]
    scores = score_candidates(decoder.new_prefix(), PROMPT, candidates)
    totals = [score + bonus for score, bonus in zip(scores, bonuses, strict=True)]
    choice = choose(decoder.new_prefix(), PROMPT, candidates, bonuses)
    assert choice.index == totals.index(max(totals))
    assert choice.score == pytest.approx(max(totals))


def test_the_choice_depends_on_nothing_cached_and_leaves_a_valid_cache(decoder: Decoder) -> None:
    prefix: Prefix = decoder.new_prefix()
    first = choose(prefix, PROMPT, make_candidates(1))
    choose(prefix, [1, 50], make_candidates(2))
    assert choose(prefix, PROMPT, make_candidates(1)) == first
    fresh = decoder.new_prefix().extend([*PROMPT, 30])
    assert np.array_equal(prefix.extend([*PROMPT, 30]), fresh)


def test_hopeless_branches_are_given_up_on(decoder: Decoder) -> None:
    candidates = [[20, END], *([n, *[30] * 25, END] for n in range(21, 31))]
    all_tokens = sum(map(len, candidates))
    assert choose(decoder.new_prefix(), PROMPT, candidates, [1e6, *[0.0] * 10]).n_computed == 1
    assert choose(decoder.new_prefix(), PROMPT, candidates, [8.0, *[0.0] * 10]).n_computed < 0.7 * all_tokens


def test_what_does_not_fit_is_no_candidate(decoder: Decoder) -> None:
    n_room = TINY.seq_len - len(PROMPT)
    long = [30] * n_room + [END]
    assert choose(decoder.new_prefix(), PROMPT, [long, [31, END]]).index == 1
    assert score_candidates(decoder.new_prefix(), PROMPT, [long, [31, END]])[0] == -math.inf
    with pytest.raises(ValueError, match="must fit into the window"):
        choose(decoder.new_prefix(), PROMPT, [long])
    with pytest.raises(ValueError, match="must fit into the window"):
        choose(decoder.new_prefix(), PROMPT, [])


def test_a_beginning_of_another_is_refused_and_a_repetition_is_not(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="beginning of another"):
        choose(decoder.new_prefix(), PROMPT, [[30], [30, END]])
    assert choose(decoder.new_prefix(), PROMPT, [[30, END], [30, END]]).index == 0


def test_another_answer_at_the_same_time_is_refused(decoder: Decoder) -> None:
    prefix = decoder.new_prefix()
    with prefix.occupy(), pytest.raises(ValueError, match="one answer at a time"):
        choose(prefix, PROMPT, [[30, END]])


def test_extend_all_needs_what_it_follows(decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="follow cached ones"):
        decoder.new_prefix().extend_all([3], 2)

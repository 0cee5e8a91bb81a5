from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.generate import generate, generate_batch, sample, stream
from model.inference.sampling import Sampling
from tests.model.conftest import TINY, awake

MODEL = awake().eval()
GREEDY = Sampling(max_tokens=12, temperature=0.0)


def generate_uncached(prompt: list[int], n_new: int) -> list[int]:
    ids = list(prompt)
    for _ in range(n_new):
        ids.append(int(MODEL.compute_logits(MODEL(torch.tensor([ids])))[0, -1].argmax()))
    return ids[len(prompt) :]


def test_cached_equals_uncached() -> None:
    prompt = [1, 50, 60, 70]
    assert generate(MODEL, prompt, GREEDY) == generate_uncached(prompt, 12)


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 299), min_size=1, max_size=31), min_size=1, max_size=9), st.integers(2, 5))
def test_batched_equals_single(prompts: list[list[int]], batch_rows: int) -> None:
    stop_ids = set(range(40))
    together = generate_batch(MODEL, prompts, max_new_tokens=12, stop_ids=stop_ids, batch_rows=batch_rows)
    for answer, prompt in zip(together, prompts, strict=True):
        assert answer == generate(MODEL, prompt, GREEDY, stop_ids=stop_ids)


def test_an_answer_ends_at_a_stop_id_or_with_the_window() -> None:
    prompt = [1, 50, 60]
    answer = generate(MODEL, prompt, GREEDY)
    assert generate(MODEL, prompt, GREEDY, stop_ids={answer[4]}) == answer[: answer.index(answer[4])]
    assert len(generate(MODEL, prompt, Sampling(max_tokens=500, temperature=0.0))) == TINY.seq_len - 3
    with pytest.raises(ValueError, match="prompt"):
        next(stream(MODEL, [1] * TINY.seq_len, GREEDY))


def test_the_seed_determines_the_answer() -> None:
    one, same, other = (generate(MODEL, [1, 2], Sampling(temperature=5.0, seed=seed)) for seed in (1, 1, 2))
    assert one == same != other


def test_sampling_stays_within_its_bounds() -> None:
    logits = torch.tensor([[0.0, 3.0, 2.0, 1.0, -1.0]]).repeat(500, 1)
    draw = lambda **how: set(sample(logits, Sampling(temperature=2.0, **how)).tolist())  # noqa: E731
    assert draw() == {0, 1, 2, 3, 4}
    assert draw(top_k=2) == {1, 2}
    assert draw(top_p=0.01) == {1}
    assert draw(top_p=0.6) == {1, 2}
    assert set(sample(logits, Sampling(temperature=0.0)).tolist()) == {1}


def test_tokens_are_sampled_with_their_probabilities() -> None:
    n = 40_000
    logits = torch.tensor([-torch.inf, 1.0, 0.0, -torch.inf, 2.0, -1.0, -torch.inf])
    sampling = Sampling(temperature=0.7)
    drawn = sample(logits.repeat(n, 1), sampling, torch.Generator().manual_seed(1))
    probability = (logits.double() / 0.7).softmax(-1)
    frequency = torch.bincount(drawn, minlength=7) / n
    assert (
        (frequency - probability).abs() <= 5 * (probability * (1 - probability) / n).sqrt()
    ).all()  # five standard deviations
    assert (frequency == 0).tolist() == (probability == 0).tolist()


@pytest.mark.parametrize("bad", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"max_tokens": 0}])
def test_bad_settings_are_named(bad: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)

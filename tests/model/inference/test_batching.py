"""A request gets the ids that it would get alone, whatever other requests join and leave the batch."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.batching import Batcher
from model.inference.generate import generate
from model.inference.sampling import Sampling
from model.network.config import ModelConfig
from model.network.transformer import Transformer

CONFIG = ModelConfig(vocab_size=50, seq_len=40, n_layer=2, n_head=4, n_kv_head=2, d_model=32, d_head=8, d_ff=48)
STOP = [7]


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer(CONFIG, seed=1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def run_step(batcher: Batcher, answers: dict[int, list[int]], ended: set[int]) -> None:
    for ticket, index in batcher.step():
        assert ticket not in ended
        if index is None:
            ended.add(ticket)
        else:
            answers.setdefault(ticket, []).append(index)


request = st.tuples(
    st.lists(st.integers(0, 49), min_size=1, max_size=39),
    st.integers(1, 30),
    st.sampled_from([0.0, 1.0]),
    st.integers(0, 3),  # steps before it is added
)


@settings(max_examples=25)
@given(requests=st.lists(request, min_size=1, max_size=7), n_slots=st.integers(1, 4))
def test_batched_equals_single(
    model: Transformer, requests: list[tuple[list[int], int, float, int]], n_slots: int
) -> None:
    batcher = Batcher(model, n_slots)
    answers: dict[int, list[int]] = {}
    ended: set[int] = set()
    alone: dict[int, list[int]] = {}
    for number, (prompt, n_new, temperature, pause) in enumerate(requests):
        sampling = Sampling(max_tokens=n_new, temperature=temperature, seed=number)
        for _ in range(pause):
            run_step(batcher, answers, ended)
        alone[batcher.add(prompt, sampling, stop_ids=STOP)] = generate(model, prompt, sampling, stop_ids=STOP)
    while batcher.is_busy:
        run_step(batcher, answers, ended)
    assert {ticket: answers.get(ticket, []) for ticket in alone} == alone
    assert ended == set(alone)


def test_a_canceled_request_gives_no_more_ids_and_frees_its_slot(model: Transformer) -> None:
    batcher = Batcher(model, 1)
    sampling = Sampling(max_tokens=20, temperature=0.0)
    first, second, third = (batcher.add([number], sampling) for number in (1, 2, 3))
    batcher.step()
    batcher.cancel(first)
    batcher.cancel(second)
    batcher.cancel(99)
    events = [event for _ in range(25) for event in batcher.step()]
    assert {event.ticket for event in events} == {third}
    assert [event.id for event in events if event.id is not None] == generate(model, [3], sampling)
    assert not batcher.is_busy


@pytest.mark.parametrize("prompt", [[], list(range(40))])
def test_an_empty_or_too_long_prompt_is_refused(prompt: list[int], model: Transformer) -> None:
    with pytest.raises(ValueError, match="a prompt must have"):
        Batcher(model).add(prompt, Sampling())

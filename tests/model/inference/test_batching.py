"""A request gets the ids that it would get alone, whatever other requests join, leave and are canceled, whatever is cached."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.batching import Batcher, Ending, Generation, Lease, TokenDetail, TokenEvent, collect_answers
from model.inference.choose import normalize
from model.inference.decoder import Decoder
from model.inference.generate import TorchEngine, generate
from model.inference.sampling import Sampling
from model.inference.token_controls import Floats, LogitControls
from model.network.config import ModelConfig
from model.network.transformer import Transformer

CONFIG = ModelConfig(vocab_size=50, seq_len=160, n_layer=2, n_head=4, n_kv_head=2, d_model=32, d_head=8, d_ff=64)
STOP = frozenset([7])
N_SLOTS = 4


@cache
def get_model() -> Transformer:
    model = Transformer(CONFIG, seed=1).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


@cache
def get_decoder(weights: str = "float32") -> Decoder:
    return Decoder(get_model(), n_slots=0, weights=weights)


def make_batcher(n_slots: int = N_SLOTS, n_threads: int = 1, weights: str = "float32") -> Batcher:
    return Batcher(get_decoder(weights).make_slots(n_slots, n_threads), n_slots)


def answer_alone(generation: Generation) -> list[int]:
    """Return the ids of an answer that has the engine for itself."""
    batcher = make_batcher(1)
    return collect_answers(batcher, [batcher.add(generation)])[0]


class Answers:
    """What the events of a batcher add up to."""

    def __init__(self) -> None:
        self.ids: dict[int, list[int]] = {}
        self.details: dict[int, list[TokenDetail]] = {}
        self.ends: dict[int, Ending] = {}

    def take(self, events: list[TokenEvent]) -> None:
        for ticket, index, detail in events:
            assert ticket not in self.ends
            if index is None:
                assert isinstance(detail, Ending)
                self.ends[ticket] = detail
            else:
                self.ids.setdefault(ticket, []).append(index)
                if isinstance(detail, TokenDetail):
                    self.details.setdefault(ticket, []).append(detail)

    def run(self, batcher: Batcher) -> Answers:
        while batcher.is_busy:
            self.take(batcher.step())
        return self


chance = st.integers(0, 49)
prompts = st.one_of(
    st.lists(chance, min_size=1, max_size=159),
    st.builds(lambda n, end: [*range(5, 5 + n), *end], st.integers(1, 40), st.lists(chance, min_size=1, max_size=110)),
)  # of the second kind many share a beginning
generations = st.builds(
    lambda prompt, n, temperature, top_k, top_p, seed, owner: Generation(
        prompt,
        Sampling(max_tokens=n, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
        STOP,
        owner=owner,
    ),
    prompts,
    st.integers(1, 30),
    st.sampled_from([0.0, 0.7, 1.5]),
    st.sampled_from([0, 5]),
    st.sampled_from([0.8, 1.0]),
    st.integers(0, 2**63 - 1),
    st.sampled_from(["a", "b"]),
)
arrivals = st.lists(st.tuples(generations, st.integers(0, 4), st.integers(0, 60)), min_size=1, max_size=9)


@settings(max_examples=40, deadline=None)
@given(arrivals=arrivals, n_slots=st.integers(1, N_SLOTS), n_threads=st.integers(1, 2))
def test_any_company_changes_no_answer(
    arrivals: list[tuple[Generation, int, int]], n_slots: int, n_threads: int
) -> None:
    """Random arrivals and cancellations, long prompts in parts, prefixes reused and copied."""
    batcher, answers = make_batcher(n_slots, n_threads), Answers()
    tickets: dict[int, Generation] = {}
    to_cancel: dict[int, int] = {}
    for generation, n_steps, cancel_after in arrivals:
        for _ in range(n_steps):
            answers.take(batcher.step())
        ticket = batcher.add(generation)
        tickets[ticket] = generation
        if cancel_after < 20:
            to_cancel[ticket] = cancel_after
        for other in [each for each, n in to_cancel.items() if n == 0]:
            batcher.cancel(other)
        to_cancel = {each: n - 1 for each, n in to_cancel.items() if n}
    answers.run(batcher)
    for ticket, generation in tickets.items():
        alone, ids = answer_alone(generation), answers.ids.get(ticket, [])
        assert ids == (alone if ticket in answers.ends else alone[: len(ids)])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_batched_equals_generate(temperature: float) -> None:
    """With the kernel and with torch, whose reference is the plain loop."""
    model = get_model()
    asked = [
        Generation([*range(50), *range(50)][: 12 * n], Sampling(max_tokens=12, temperature=temperature, seed=n), STOP)
        for n in range(1, 8)
    ]
    expected = [generate(model, each.prompt, each.sampling, stop_ids=STOP) for each in asked]
    for engine in (get_decoder().make_slots(3), TorchEngine(model, 3)):
        batcher = Batcher(engine, 3)
        assert collect_answers(batcher, [batcher.add(each) for each in asked]) == expected


def test_running_answers_get_a_token_in_each_step_while_a_long_prompt_is_computed() -> None:
    batcher = make_batcher()
    first = batcher.add([1, 2, 3], Sampling(max_tokens=100))
    batcher.step()
    second = batcher.add(list(range(49)) * 3, Sampling(max_tokens=1))
    for _ in range(2):  # 147 tokens in parts of 64
        assert [event.ticket for event in batcher.step()] == [first]
    assert {event.ticket for event in batcher.step()} == {first, second}


def test_a_canceled_request_gives_no_more_ids_and_frees_its_slot() -> None:
    batcher, sampling = make_batcher(1), Sampling(max_tokens=20)
    first, second, third = (batcher.add([number], sampling) for number in (1, 2, 3))
    batcher.step()
    batcher.cancel(first)
    batcher.cancel(second)
    batcher.cancel(99)
    answers = Answers().run(batcher)
    assert answers.ids == {third: answer_alone(Generation([3], sampling))}
    assert not batcher.is_busy


def test_a_prompt_continues_what_its_owner_has_cached() -> None:
    batcher, prompt = make_batcher(), list(range(1, 40))

    def ask(prompt: list[int], owner: str) -> tuple[int, list[int]]:
        ticket = batcher.add(Generation(prompt, Sampling(max_tokens=4), owner=owner))
        answers = Answers().run(batcher)
        return answers.ends[ticket].n_reused, answers.ids[ticket]

    n_reused, ids = ask(prompt, "a")
    assert n_reused == 0
    assert ask(prompt, "b")[0] == 0  # what another owner has computed is never used
    assert ask([*prompt, *ids, 3], "a")[0] == len(prompt) + 3  # the last id of an answer was never an input
    assert ask([*prompt[:10], 0, *prompt[:20]], "a")[0] == 10  # copied into another slot
    assert ask([*prompt, *ids, 3], "a")[0] == len(prompt) + 4
    batcher.forget("a")
    assert ask(prompt, "a")[0] == 0
    assert ask(prompt, "b")[0] == len(prompt) - 1


def test_a_running_answer_shares_its_prompt() -> None:
    batcher, prompt, answers = make_batcher(), list(range(1, 40)), Answers()
    first = batcher.add(prompt, Sampling(max_tokens=30, temperature=1.0, seed=1))
    answers.take(batcher.step())
    second = batcher.add(prompt, Sampling(max_tokens=30, temperature=1.0, seed=2))
    answers.run(batcher)
    assert answers.ends[second].n_reused == len(prompt) - 1
    for ticket, seed in ((first, 1), (second, 2)):
        assert answers.ids[ticket] == answer_alone(
            Generation(prompt, Sampling(max_tokens=30, temperature=1.0, seed=seed))
        )


def test_no_owner_can_starve_another() -> None:
    batcher = make_batcher(2)
    greedy = [batcher.add(Generation([n], Sampling(max_tokens=9), owner="greedy")) for n in range(1, 9)]
    batcher.step()
    modest = batcher.add(Generation([9], Sampling(max_tokens=2), owner="modest"))
    ends = list(Answers().run(batcher).ends)
    assert set(ends) == {*greedy, modest}
    assert ends.index(modest) <= 2  # at the first free slot


def test_a_request_that_waits_too_long_is_dropped() -> None:
    batcher = make_batcher(1)
    first = batcher.add([1], Sampling(max_tokens=9))
    late = batcher.add(Generation([2], Sampling(), expires_at=5.0))
    batcher.step()
    assert batcher.expire(4.9) == []
    [event] = batcher.expire(5.0)
    assert (event.ticket, event.detail.reason) == (late, "expired")
    assert list(Answers().run(batcher).ends) == [first]


def extend(batcher: Batcher, ticket: int) -> Floats:
    logits = Answers().run(batcher).ends[ticket].logits
    assert logits is not None
    return logits


def test_a_lease_computes_what_a_prefix_computes_beside_running_answers() -> None:
    batcher, prompt = make_batcher(), [*range(50), *range(10, 49)]
    running = Generation([4, 5, 6], Sampling(max_tokens=140, temperature=1.0, seed=5), STOP)
    prefix, lease = get_decoder().new_prefix(), Lease("a")
    batcher.add(running)
    batcher.step()
    assert np.array_equal(extend(batcher, batcher.extend(lease, prompt)), prefix.extend(prompt))
    batcher.add(running)
    ids = list(range(40, 49)) * 3
    ours = extend(batcher, batcher.extend_all(lease, ids, 80))
    assert np.array_equal(ours, prefix.extend_all(ids, 80))
    other = [*prompt[:80], *ids, 1]
    assert np.array_equal(extend(batcher, batcher.extend(lease, other)), prefix.extend(other))
    assert (lease.n_reused, prefix.n_reused) == (107, 107)
    with pytest.raises(ValueError, match="ids must follow cached ones"):
        batcher.extend_all(lease, [3], 109)
    batcher.release(lease)
    assert not batcher.is_busy


class Even:
    """A constraint: even ids only, three of them."""

    n = 0

    @property
    def is_complete(self) -> bool:
        return self.n == 3

    def mask(self, logits: Floats) -> None:
        logits[1::2] = -np.inf

    def accept(self, index: int) -> None:
        if index == 40:
            raise RuntimeError("stuck")
        self.n += 1


def answer(
    controls: LogitControls, sampling: Sampling | None = None, stop_ids: frozenset[int] = STOP, banned: int = -1
) -> Answers:
    batcher = make_batcher()
    batcher.add([9], Sampling(max_tokens=30, temperature=1.0))  # the others are left alone
    batcher.add(Generation([1, 2, 3], sampling or Sampling(max_tokens=30), stop_ids, controls, banned=banned))
    answers = Answers().run(batcher)
    assert answers.ids[1] == answer_alone(Generation([9], Sampling(max_tokens=30, temperature=1.0)))
    return answers


def test_controls_change_what_is_chosen() -> None:
    plain = answer_alone(Generation([1, 2, 3], Sampling(max_tokens=30)))
    banned = answer(LogitControls(logit_bias={plain[0]: -100.0}), stop_ids=frozenset(), banned=plain[1])
    assert not {plain[0], plain[1]} & set(banned.ids[2])
    wanted = answer(LogitControls(logit_bias={11: 1e4}), Sampling(max_tokens=5, temperature=2.0))
    assert wanted.ids[2] == [11] * 5
    rare = answer(LogitControls(frequency_penalty=1e4), stop_ids=frozenset()).ids[2]
    assert len(set(rare)) == 30
    assert len(set(answer(LogitControls(presence_penalty=1e4), stop_ids=frozenset()).ids[2])) == 30
    stops = frozenset(plain[:1])
    assert answer(LogitControls(), stop_ids=stops).ids.get(2) is None
    least = answer(LogitControls(min_tokens=4), stop_ids=stops).ids[2]
    assert len(least) >= 4
    assert not stops & set(least[:4])


def test_a_constraint_masks_and_ends_an_answer_or_fails_it_alone() -> None:
    constrained = answer(LogitControls(constraint=Even(), logit_bias={40: -1e4}), stop_ids=frozenset())
    assert len(constrained.ids[2]) == 3
    assert not any(index % 2 for index in constrained.ids[2])
    assert constrained.ends[2].reason == "end"
    stuck = answer(LogitControls(constraint=Even(), logit_bias={40: 1e4}))
    assert stuck.ends[2].reason == "error"
    assert str(stuck.ends[2].error) == "stuck"


def test_log_probabilities_are_the_models() -> None:
    prompt, sampling = [1, 2, 3], Sampling(max_tokens=6, temperature=1.3, seed=4)
    answers = answer(LogitControls(n_logprobs=3, logit_bias={5: 2.0}), sampling, frozenset())
    prefix = get_decoder().new_prefix()
    for number, (index, detail) in enumerate(zip(answers.ids[2], answers.details[2], strict=True)):
        expected = normalize(prefix.extend([*prompt, *answers.ids[2][:number]]))[0]
        assert detail.logprob == pytest.approx(expected[index], abs=1e-12)
        assert [each for each, _ in detail.alternatives] == np.argsort(-expected, kind="stable")[:3].tolist()
        assert [value for _, value in detail.alternatives] == sorted(expected, reverse=True)[:3]


def test_a_failed_step_ends_all_requests_and_trusts_no_slot() -> None:
    batcher, prompt = make_batcher(), list(range(1, 30))
    batcher.add(prompt, Sampling(max_tokens=9))
    batcher.step()
    events = batcher.fail_all(MemoryError("no memory"))
    assert [(event.id, event.detail.reason) for event in events] == [(None, "error")]
    assert not batcher.is_busy
    ticket = batcher.add(prompt, Sampling(max_tokens=9))
    assert Answers().run(batcher).ends[ticket].n_reused == 0


def test_ends_have_their_reason() -> None:
    batcher = make_batcher()
    plain = answer_alone(Generation([1, 2, 3], Sampling(max_tokens=30)))
    for sampling, stop_ids, reason in (
        (Sampling(max_tokens=2), frozenset[int](), "length"),
        (Sampling(max_tokens=500), frozenset[int](), "window"),
        (Sampling(max_tokens=157), frozenset[int](), "length"),
        (Sampling(max_tokens=30), frozenset(plain[4:5]), "end"),
    ):
        ticket = batcher.add([1, 2, 3], sampling, stop_ids=stop_ids)
        assert Answers().run(batcher).ends[ticket].reason == reason


@pytest.mark.parametrize("prompt", [[3, 50], [-1]])
def test_an_id_that_the_model_does_not_have_is_refused(prompt: list[int]) -> None:
    """The kernel would read beyond its tables."""
    with pytest.raises(ValueError, match="ids must be from 0 to 49"):
        make_batcher().add(prompt)
    with pytest.raises(ValueError, match="ids must be from 0 to 49"):
        make_batcher().extend(Lease(""), prompt)


@pytest.mark.parametrize("prompt", [[], [1] * 160])
def test_an_empty_or_too_long_prompt_is_refused(prompt: list[int]) -> None:
    batcher = make_batcher()
    with pytest.raises(ValueError, match="a prompt must have"):
        batcher.add(prompt, Sampling())
    with pytest.raises(ValueError, match="a prompt must have"):
        batcher.extend(Lease(""), [*prompt, *prompt])
    assert not batcher.is_busy


def test_bits_are_the_same_with_other_weights_too() -> None:
    for weights in ("bfloat16", "int8", "int4"):
        one, many = make_batcher(1, weights=weights), make_batcher(4, 2, weights)
        asked = [Generation(list(range(1, 16 * n)), Sampling(max_tokens=9, temperature=1.0, seed=n)) for n in (1, 2, 3)]
        alone = [collect_answers(one, [one.add(replace(each))])[0] for each in asked]
        assert collect_answers(many, [many.add(each) for each in asked]) == alone

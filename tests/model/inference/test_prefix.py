"""A conversation that continues its cached prefix gets the ids that it would get recomputed, with every backend."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.decoder import Decoder
from model.inference.generate import TorchPrefix
from model.inference.prefix import Prefix
from model.inference.sampling import Sampling
from model.network.quantize import round_weights
from tests.model.inference.test_decoder import MODEL

get_decoder = cache(partial(Decoder, MODEL, n_slots=0))
BACKENDS: dict[str, Callable[[], Prefix]] = {
    "kernel": lambda: get_decoder(weights="float32").new_prefix(),
    "kernel int8": lambda: get_decoder(weights="int8").new_prefix(),
    "torch": lambda: TorchPrefix(MODEL),
    "torch int8": lambda: TorchPrefix(ROUNDED),
}
ROUNDED = round_weights(MODEL, "int8")
GREEDY = Sampling(max_tokens=12)
turn = st.tuples(
    st.integers(
        0, 149
    ),  # number of ids of the conversation that stay; the others are replaced, as when a round is dropped
    st.lists(st.integers(0, 50), min_size=1, max_size=40),  # new ids
    st.integers(0, 12),  # number of ids that are read of the answer before it is stopped
    st.sampled_from([0.0, 0.9]),
)


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=25, deadline=None)
@given(turns=st.lists(turn, min_size=1, max_size=6))
def test_cached_equals_recomputed(backend: str, turns: list[tuple[int, list[int], int, float]]) -> None:
    prefix, conversation = BACKENDS[backend](), list[int]()
    for number, (n_kept, new, n_read, temperature) in enumerate(turns):
        conversation = [*conversation[:n_kept], *new][-137:]
        sampling = Sampling(max_tokens=12, temperature=temperature, seed=number)
        answer = prefix.stream(conversation, sampling, [7])
        ids = [index for index, _ in zip(answer, range(n_read), strict=False)]
        answer.close()
        assert ids == list(BACKENDS[backend]().stream(conversation, sampling, [7]))[:n_read]
        if n_read:
            assert prefix.n_reused + prefix.n_computed == len(conversation)
        conversation += ids
    cached, recomputed = prefix.extend(conversation), BACKENDS[backend]().extend(conversation)
    if backend.startswith("kernel"):
        assert np.array_equal(cached, recomputed)
    else:
        assert np.allclose(cached, recomputed, atol=2e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_turn_computes_only_its_new_tokens(backend: str) -> None:
    prefix, prompt = BACKENDS[backend](), list(np.random.default_rng(1).integers(0, 51, 40).tolist())
    answer = list(prefix.stream(prompt, GREEDY))
    assert (prefix.n_reused, prefix.n_computed) == (0, 40)
    new = [1, 2, 3, 4, 5]
    list(prefix.stream([*prompt, *answer, *new], GREEDY))
    assert (prefix.n_reused, prefix.n_computed) == (40 + 12 - 1, 1 + 5)  # the last id of an answer is never an input
    list(prefix.stream([*prompt, *answer, *new], GREEDY))
    assert (prefix.n_reused, prefix.n_computed) == (40 + 12 + 5 - 1, 1)  # the last id is recomputed for its logits
    list(prefix.stream([*prompt[:10], 50 - prompt[10], *prompt[11:]], GREEDY))
    assert (prefix.n_reused, prefix.n_computed) == (10, 30)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_prefix_generates_one_answer_at_a_time(backend: str) -> None:
    prefix = BACKENDS[backend]()
    first = prefix.stream([1, 2, 3], GREEDY)
    next(first)
    with pytest.raises(ValueError, match="one answer at a time"):
        next(prefix.stream([1, 2, 3], GREEDY))
    first.close()
    assert list(prefix.stream([1, 2, 3], GREEDY)) == list(BACKENDS[backend]().stream([1, 2, 3], GREEDY))


def test_an_interrupted_step_leaves_the_cache_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, prompt = Decoder(MODEL, n_slots=0).new_prefix(), list(range(1, 30))
    list(prefix.stream(prompt, GREEDY))

    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    other = [*prompt[:20], *range(40, 50)]
    with monkeypatch.context() as patch:
        patch.setattr(prefix, "_compute", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(prefix.stream(other, GREEDY))
    assert prefix.ids == prompt[:20]
    assert list(prefix.stream(prompt, GREEDY)) == list(Decoder(MODEL).stream(prompt, GREEDY))


@pytest.mark.parametrize("make", [lambda: Decoder(MODEL).new_prefix(), lambda: TorchPrefix(MODEL)])
def test_a_prompt_beyond_the_window_is_refused(make: Callable[[], Prefix]) -> None:
    """The compiled kernel would write behind its cache."""
    prefix = make()
    assert prefix.extend([1] * MODEL.config.seq_len).shape == (1, MODEL.config.vocab_size)
    for prompt in ([1] * (MODEL.config.seq_len + 1), []):
        with pytest.raises(ValueError, match="a prompt must have 1 to 150 tokens"):
            prefix.extend(prompt)

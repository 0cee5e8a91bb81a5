"""A conversation that continues its cached prefix gets what it would get computed anew, from both writers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.decoder import Decoder, round_weights
from model.inference.generate import Prefix, TorchPrefix
from model.inference.sampling import Sampling
from tests.model.inference.test_decoder import MODEL

WRITERS: dict[str, Callable[[], Prefix]] = {
    "kernel": Decoder(MODEL, n_slots=0).new_prefix,
    "kernel int8": Decoder(MODEL, n_slots=0, weights="int8").new_prefix,
    "torch": lambda: TorchPrefix(MODEL),
    "torch int8": lambda: TorchPrefix(ROUNDED),
}
ROUNDED = round_weights(MODEL)
GREEDY = Sampling(max_tokens=12)
turn = st.tuples(
    st.integers(
        0, 149
    ),  # ids of the conversation so far that stay; the others are replaced, as when a round is dropped
    st.lists(st.integers(0, 50), min_size=1, max_size=40),  # new ids
    st.integers(0, 12),  # ids that are read of the answer before it is stopped
    st.sampled_from([0.0, 0.9]),
)


@pytest.mark.parametrize("writer", WRITERS)
@settings(max_examples=25, deadline=None)
@given(turns=st.lists(turn, min_size=1, max_size=6))
def test_cached_is_computed_anew(writer: str, turns: list[tuple[int, list[int], int, float]]) -> None:
    prefix, talk = WRITERS[writer](), list[int]()
    for number, (n_kept, new, n_read, temperature) in enumerate(turns):
        talk = [*talk[:n_kept], *new][-137:]
        sampling = Sampling(max_tokens=12, temperature=temperature, seed=number)
        answer = prefix.stream(talk, sampling, [7])
        said = [index for index, _ in zip(answer, range(n_read), strict=False)]
        answer.close()
        assert said == list(WRITERS[writer]().stream(talk, sampling, [7]))[:n_read]
        if n_read:
            assert prefix.n_reused + prefix.n_computed == len(talk)
        talk += said
    again, anew = prefix.extend(talk), WRITERS[writer]().extend(talk)
    if writer.startswith("kernel"):
        assert torch.equal(again, anew)
    else:
        assert torch.allclose(again, anew, atol=2e-4)


@pytest.mark.parametrize("writer", WRITERS)
def test_a_turn_computes_its_new_tokens_only(writer: str) -> None:
    prefix, prompt = WRITERS[writer](), list(np.random.default_rng(1).integers(0, 51, 40).tolist())
    said = list(prefix.stream(prompt, GREEDY))
    assert (prefix.n_reused, prefix.n_computed) == (0, 40)
    new = [1, 2, 3, 4, 5]
    list(prefix.stream([*prompt, *said, *new], GREEDY))
    assert (prefix.n_reused, prefix.n_computed) == (40 + 12 - 1, 1 + 5)  # the last id of an answer is never read
    list(prefix.stream([*prompt, *said, *new], GREEDY))
    assert (prefix.n_reused, prefix.n_computed) == (40 + 12 + 5 - 1, 1)  # the last one's logits are asked for
    list(prefix.stream([*prompt[:10], 50 - prompt[10], *prompt[11:]], GREEDY))
    assert (prefix.n_reused, prefix.n_computed) == (10, 30)


@pytest.mark.parametrize("writer", WRITERS)
def test_one_answer_at_a_time(writer: str) -> None:
    prefix = WRITERS[writer]()
    first = prefix.stream([1, 2, 3], GREEDY)
    next(first)
    with pytest.raises(ValueError, match="one answer at a time"):
        next(prefix.stream([1, 2, 3], GREEDY))
    first.close()
    assert list(prefix.stream([1, 2, 3], GREEDY)) == list(WRITERS[writer]().stream([1, 2, 3], GREEDY))


def test_a_break_in_the_middle_of_a_step_leaves_nothing_half_right(monkeypatch: pytest.MonkeyPatch) -> None:
    prefix, prompt = Decoder(MODEL, n_slots=0).new_prefix(), list(range(1, 30))
    list(prefix.stream(prompt, GREEDY))

    def broken(*given: object) -> None:
        raise KeyboardInterrupt

    other = [*prompt[:20], *range(40, 50)]
    with monkeypatch.context() as patch:
        patch.setattr(prefix, "_compute", broken)
        with pytest.raises(KeyboardInterrupt):
            next(prefix.stream(other, GREEDY))
    assert prefix.ids == prompt[:20]
    assert list(prefix.stream(prompt, GREEDY)) == list(Decoder(MODEL).stream(prompt, GREEDY))

"""A session's prefix at an engine thread gives what its own prefix gives, to the bit, whatever others ask for meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inference.choose import choose
from model.inference.generate import generate
from model.inference.sampling import Sampling
from model.serving.engine_thread import EngineThread
from model.serving.served_prefix import ServedPrefix
from tests.model.inference.test_batching import STOP, get_decoder, get_model, make_batcher

GREEDY = Sampling(max_tokens=12)


@pytest.fixture(scope="module")
def thread() -> Iterator[EngineThread]:
    thread = EngineThread(make_batcher(3, 2), n_slots=3)
    yield thread
    thread.close()


turn = st.tuples(
    st.integers(0, 159),  # ids of the conversation that stay
    st.lists(st.integers(0, 49), min_size=1, max_size=40),  # new ones
    st.integers(0, 12),  # ids that are read of the answer before it is stopped
    st.sampled_from([0.0, 0.9]),
)


@settings(max_examples=25, deadline=None)
@given(conversations=st.lists(st.lists(turn, min_size=1, max_size=4), min_size=1, max_size=3))
def test_conversations_in_several_threads_equal_recomputed_ones(
    thread: EngineThread, conversations: list[list[tuple[int, list[int], int, float]]]
) -> None:
    def run(number: int) -> None:
        prefix, conversation = ServedPrefix(thread, f"owner {number % 2}"), list[int]()
        for seed, (n_kept, new, n_read, temperature) in enumerate(conversations[number]):
            conversation = [*conversation[:n_kept], *new][-140:]
            sampling = Sampling(max_tokens=12, temperature=temperature, seed=seed)
            answer = prefix.stream(conversation, sampling, STOP)
            ids = [index for index, _ in zip(answer, range(n_read), strict=False)]
            answer.close()
            assert ids == list(get_decoder().stream(conversation, sampling, STOP))[:n_read]
            conversation += ids

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(run, range(len(conversations))))
    assert thread.wait_idle(5)


def test_choices_equal_those_of_an_own_prefix_while_answers_are_generated(thread: EngineThread) -> None:
    generator = np.random.default_rng(5)
    prompts = [generator.integers(0, 49, 30 + 9 * n).tolist() for n in range(8)]
    candidates = [[*generator.integers(0, 40, n % 20 + 1).tolist(), 49] for n in range(30)]

    def run(number: int) -> None:
        prefix = ServedPrefix(thread, "a")
        assert choose(prefix, prompts[number], candidates) == choose(
            get_decoder().new_prefix(), prompts[number], candidates
        )
        sampling = Sampling(max_tokens=9, temperature=1.0, seed=number)
        assert list(prefix.stream(prompts[number], sampling, STOP)) == generate(
            get_model(), prompts[number], sampling, stop_ids=STOP
        )

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(run, range(8)))
    assert thread.wait_idle(5)
    assert thread._batcher._table.n_free == 3  # every lease was given back


def test_conversations_share_prefixes_inside_of_their_owner_only(thread: EngineThread) -> None:
    prompt = list(range(30))
    one, same, other = ServedPrefix(thread, "x"), ServedPrefix(thread, "x"), ServedPrefix(thread, "y")
    answer = list(one.stream(prompt, GREEDY))
    for prefix, n_reused in ((same, 29), (other, 0)):
        assert list(prefix.stream(prompt, GREEDY)) == answer
        assert (prefix.n_reused, prefix.n_computed) == (n_reused, 30 - n_reused)
    with other.occupy():
        other.extend([*prompt, *answer, 3])
    assert other.n_reused == 30 + 11


def test_a_prefix_is_used_by_one_answer_at_a_time(thread: EngineThread) -> None:
    prefix = ServedPrefix(thread, "a")
    first = prefix.stream([1, 2, 3], GREEDY)
    next(first)
    with pytest.raises(ValueError, match="one answer at a time"):
        next(prefix.stream([1, 2, 3], GREEDY))
    first.close()
    with pytest.raises(ValueError, match="call occupy"):
        prefix.extend([1])
    with prefix.occupy(), pytest.raises(ValueError, match="a prompt must have"):
        prefix.extend([])
    assert len(list(prefix.stream([1, 2, 3], GREEDY))) == 12

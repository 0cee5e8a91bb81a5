"""One thread serves requests of many threads: each gets what it would get alone, and nothing is lost, doubled or left behind."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from model.inference.batching import Ending, Generation, TokenDetail
from model.inference.sampling import Sampling
from model.inference.token_controls import Floats, LogitControls
from model.serving.engine_thread import Delivery, EngineThread, QueueFullError, QueueReceiver
from tests.model.inference.test_batching import STOP, answer_alone, make_batcher

LONG = Generation([1, 2, 3], Sampling(max_tokens=150, temperature=1.0, seed=3))


@pytest.fixture
def thread() -> Iterator[EngineThread]:
    thread = EngineThread(make_batcher(3), n_slots=3, n_waiting=2)
    yield thread
    thread.close()


def read(receiver: QueueReceiver) -> tuple[list[int], Ending]:
    """Return the ids and the end of an answer."""
    ids: list[int] = []
    while True:
        for _, index, detail in receiver.take():
            if index is not None:
                ids.append(index)
            else:
                assert isinstance(detail, Ending)
                return ids, detail


def ask(thread: EngineThread, generation: Generation) -> tuple[list[int], Ending]:
    receiver = QueueReceiver()
    thread.submit(generation, receiver, is_bounded=False)
    return read(receiver)


def test_many_threads_get_the_answers_that_they_would_get_alone(thread: EngineThread) -> None:
    asked = [
        Generation(
            [n, *range(40), n], Sampling(max_tokens=n % 9 + 1, temperature=n % 2, seed=n), STOP, owner=str(n % 3)
        )
        for n in range(40)
    ]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda each: ask(thread, each)[0], asked))
    assert answers == [answer_alone(each) for each in asked]
    assert thread.wait_idle(5)


class Gate:
    """A constraint that lets the engine's step wait, and counts steps."""

    is_complete = False

    def __init__(self) -> None:
        self.entered, self.go, self.n = Event(), Event(), 0

    def mask(self, logits: Floats) -> None:
        self.n += 1
        self.entered.set()
        assert self.go.wait(10)

    def accept(self, index: int) -> None:
        pass


def test_a_step_is_delivered_at_once_to_a_receiver_of_several_answers() -> None:
    thread, gate = EngineThread(make_batcher(3), n_slots=3), Gate()
    lists: list[list[Delivery]] = []
    done = Event()

    class Receiver:
        def receive(self, deliveries: list[Delivery]) -> None:
            lists.append(deliveries)
            if sum(each.id is None for many in lists for each in many) == 3:
                done.set()

    receiver = Receiver()
    thread.submit(Generation([5], Sampling(max_tokens=6), controls=LogitControls(constraint=gate)), receiver)
    assert gate.entered.wait(5)
    others = [thread.submit(Generation([n], Sampling(max_tokens=5)), receiver) for n in (1, 2)]
    gate.go.set()
    assert done.wait(5)
    assert len({each.submission for many in lists for each in many}) == 3
    assert any({*others} <= {each.submission for each in many} for many in lists)  # their first tokens together
    assert len(lists) <= 7  # steps
    thread.close()


def test_a_canceled_answer_costs_at_most_the_running_step(thread: EngineThread) -> None:
    gate, receiver = Gate(), QueueReceiver()
    submission = thread.submit(
        Generation([1], Sampling(max_tokens=99), controls=LogitControls(constraint=gate)), receiver
    )
    assert gate.entered.wait(5)
    thread.cancel(submission)
    gate.go.set()
    assert thread.wait_idle(5)
    assert gate.n == 1
    thread.cancel(submission)
    assert ask(thread, LONG)[0] == answer_alone(LONG)


def test_a_full_queue_refuses_at_once_and_sessions_are_not_bounded() -> None:
    thread, gate = EngineThread(make_batcher(1), n_slots=1, n_waiting=2), Gate()
    receivers = [QueueReceiver() for _ in range(4)]
    thread.submit(Generation([1], Sampling(max_tokens=1), controls=LogitControls(constraint=gate)), receivers[0])
    assert gate.entered.wait(5)
    for receiver in receivers[1:3]:
        thread.submit(LONG, receiver)
    with pytest.raises(QueueFullError, match="the queue is full; found 3 requests"):
        thread.submit(LONG, QueueReceiver())
    thread.submit(LONG, receivers[3], is_bounded=False)
    gate.go.set()
    assert [read(receiver)[0] for receiver in receivers[1:]] == [answer_alone(LONG)] * 3
    thread.submit(LONG, QueueReceiver())
    thread.close()


def test_a_request_that_can_not_be_served_ends_with_the_error_that_says_why(thread: EngineThread) -> None:
    ids, ending = ask(thread, Generation([], Sampling()))
    assert (ids, ending.reason) == ([], "error")
    assert isinstance(ending.error, ValueError)
    assert ask(thread, Generation([1], Sampling(), expires_at=0.0))[1].reason in ("expired", "length")  # if it waited
    assert thread.wait_idle(5)


def test_a_failed_step_ends_the_answers_of_that_moment_and_nothing_else(
    thread: EngineThread, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = thread._batcher
    compute, n = batcher._engine.compute, 0

    def fail_once(*rows: object) -> Floats:
        nonlocal n
        n += 1
        if n == 3:
            raise MemoryError("no memory")
        return compute(*rows)

    monkeypatch.setattr(batcher._engine, "compute", fail_once)
    ids, ending = ask(thread, LONG)
    assert ids == answer_alone(LONG)[: len(ids)]
    assert isinstance(ending.error, MemoryError)
    assert ask(thread, LONG)[0] == answer_alone(LONG)
    assert "a step of the engine failed" in caplog.text


def test_closing_ends_what_is_running_and_takes_nothing_more() -> None:
    thread, receiver = EngineThread(make_batcher(1), n_slots=1), QueueReceiver()
    waiting = QueueReceiver()
    thread.submit(LONG, receiver)
    thread.submit(LONG, waiting)
    thread.close()
    for each in (receiver, waiting):
        ids, ending = read(each)
        assert len(ids) == 150 or str(ending.error) == "the engine was closed"
    with pytest.raises(RuntimeError, match="the engine is closed"):
        thread.submit(LONG, receiver)


def test_details_come_with_their_tokens(thread: EngineThread) -> None:
    receiver = QueueReceiver()
    thread.submit(Generation([1], Sampling(max_tokens=4), controls=LogitControls(n_logprobs=2)), receiver)
    deliveries: list[Delivery] = []
    while not deliveries or deliveries[-1].id is not None:
        deliveries += receiver.take()
    assert [isinstance(each.detail, TokenDetail) for each in deliveries] == [True] * 4 + [False]

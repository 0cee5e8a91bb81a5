"""Run a batcher in a thread of its own, for callers in any thread and on any event loop.

In: requests with a receiver each. Out: what each step gave, handed to every receiver once for all of its requests, so a step with
64 answers wakes an event loop once. First tokens and ends are handed over at once, other tokens within 2 ms: a wake-up costs as
much as a token of a small model. Nothing waits for a receiver: events collect there. Requests join and leave between steps, so
a canceled one costs at most the step that is running. More requests than slots and queue hold are refused at once. A step that
fails ends the requests of that moment with the error; the thread goes on with empty slots.
Memory: the batcher's. Time: some microseconds per token beside the model's.
"""

from __future__ import annotations

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from queue import SimpleQueue
from threading import Condition, Thread
from typing import NamedTuple, Protocol

from model.inference.batching import Batcher, Ending, Generation, TokenDetail, TokenEvent
from model.network.config import ModelConfig

HOLD_SECONDS = 0.002  # of a token that is neither the first nor the last one; nobody sees it
# Python lets a thread run for 5 ms while another one waits; the engine would wait so long after every kernel call.
SWITCH_SECONDS = 0.0005
_LOG = logging.getLogger(__name__)


class QueueFullError(RuntimeError):
    """As many requests wait as may."""


class Submission:
    """One request at an engine thread. `ticket` is the batcher's, as soon as the thread has taken the request."""

    __slots__ = ("has_begun", "is_canceled", "receiver", "ticket")

    def __init__(self, receiver: Receiver) -> None:
        self.receiver, self.ticket, self.is_canceled, self.has_begun = receiver, 0, False, False


class Delivery(NamedTuple):
    """An event of a request."""

    submission: Submission
    id: int | None
    detail: TokenDetail | Ending | None


class Receiver(Protocol):
    """Takes events in the engine thread; it must return at once."""

    def receive(self, deliveries: list[Delivery]) -> None: ...


class QueueReceiver:
    """The receiver of a worker thread, which waits for the events of one request."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[list[Delivery]] = SimpleQueue()

    def receive(self, deliveries: list[Delivery]) -> None:
        self._queue.put(deliveries)

    def take(self) -> list[Delivery]:
        """Wait for the next events."""
        return self._queue.get()


class EngineThread:
    """The thread and its queue. `n_waiting`: requests that may wait beside those that have a slot."""

    def __init__(self, batcher: Batcher, *, n_slots: int, n_waiting: int = 64, name: str = "engine") -> None:
        self.config: ModelConfig = batcher.config
        self._batcher, self._n_most = batcher, n_slots + n_waiting
        self._inbox: deque[Callable[[], None]] = deque()
        self._submissions: dict[int, Submission] = {}  # by ticket
        self._n_outstanding = 0  # requests that were taken and have not ended
        self._changed = Condition()
        self._is_closing = False
        self._held: dict[Receiver, list[Delivery]] = {}  # events that are not handed over yet
        self._handed_at = 0.0
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def n_outstanding(self) -> int:
        """The number of requests that have not ended."""
        return self._n_outstanding

    @property
    def n_waiting(self) -> int:
        """The number of requests without a slot."""
        return self._batcher.n_waiting

    @property
    def n_active(self) -> int:
        """The number of requests with a slot."""
        return self._batcher.n_active

    def submit(self, generation: Generation, receiver: Receiver, *, is_bounded: bool = True) -> Submission:
        """Ask for an answer. Raises: QueueFullError; the batcher's ValueError comes as the answer's `Ending`."""
        return self._ask(lambda: self._batcher.add(generation), receiver, is_bounded=is_bounded)

    def ask(self, add: Callable[[Batcher], int]) -> Ending:
        """Let the thread add a request to its batcher, and wait for its end. Raises: what `add` raises, and the error of a step."""
        receiver = QueueReceiver()
        self._ask(lambda: add(self._batcher), receiver, is_bounded=False)
        ending = receiver.take()[-1].detail
        assert isinstance(ending, Ending)
        if ending.error is not None:
            raise ending.error
        return ending

    def tell(self, act: Callable[[Batcher], None]) -> None:
        """Let the thread act on its batcher between steps; nobody waits for it."""
        self._put(lambda: act(self._batcher))

    def cancel(self, submission: Submission) -> None:
        """Drop a request: no event comes after the running step's. One that has ended is not an error."""
        submission.is_canceled = True
        self._put(lambda: self._forget(submission))

    def wait_idle(self, seconds: float | None = None) -> bool:
        """Wait until all requests have ended. Return whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: self._n_outstanding == 0, seconds)

    def close(self) -> None:
        """End the thread after the running step; requests that are left end with an error."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join()

    def _ask(self, add: Callable[[], int], receiver: Receiver, *, is_bounded: bool) -> Submission:
        submission = Submission(receiver)

        def start() -> None:
            if submission.is_canceled:
                self._count(-1)
                return
            try:
                submission.ticket = add()
            except ValueError as error:
                self._count(-1)
                receiver.receive([Delivery(submission, None, Ending("error", error=error))])
            else:
                self._submissions[submission.ticket] = submission

        with self._changed:
            if self._is_closing:
                raise RuntimeError("the engine is closed; found a new request; ask the engine that has replaced it.")
            if is_bounded and self._n_outstanding >= self._n_most:
                raise QueueFullError(f"the queue is full; found {self._n_outstanding} requests; try again later.")
            self._n_outstanding += 1
            self._inbox.append(start)
            self._changed.notify_all()
        return submission

    def _put(self, action: Callable[[], None]) -> None:
        with self._changed:
            self._inbox.append(action)
            self._changed.notify_all()

    def _forget(self, submission: Submission) -> None:
        if submission.ticket and self._submissions.pop(submission.ticket, None) is not None:
            self._batcher.cancel(submission.ticket)
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._changed:
            self._n_outstanding += change
            if self._n_outstanding == 0:
                self._changed.notify_all()

    def _run(self) -> None:
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_SECONDS))
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._inbox or self._batcher.can_step)
                if self._is_closing:
                    break
                actions, self._inbox = self._inbox, deque()
            self._step(actions)
        for action in self._inbox:
            action()
        self._deliver(self._batcher.fail_all(RuntimeError("the engine was closed")))

    def _step(self, actions: Iterable[Callable[[], None]]) -> None:
        try:
            for action in actions:
                action()
            events = self._batcher.expire(time.monotonic()) if self._batcher.n_waiting else []
            self._deliver(events + self._batcher.step())
        except Exception as error:
            _LOG.exception("a step of the engine failed")
            self._deliver(self._batcher.fail_all(error))

    def _deliver(self, events: list[TokenEvent]) -> None:
        """Sort the events of a step by receiver, and hand them over if one of them can't wait."""
        is_urgent, n_ended = False, 0
        for ticket, index, detail in events:
            if (submission := self._submissions.get(ticket)) is None:
                continue
            if index is None:
                del self._submissions[ticket]
                n_ended += 1
            is_urgent = is_urgent or index is None or not submission.has_begun
            submission.has_begun = True
            self._held.setdefault(submission.receiver, []).append(Delivery(submission, index, detail))
        if is_urgent or (self._held and time.monotonic() >= self._handed_at + HOLD_SECONDS):
            self._hand_over()
        if n_ended:
            self._count(-n_ended)

    def _hand_over(self) -> None:
        """Give each receiver its events, in one list."""
        held, self._held, self._handed_at = self._held, {}, time.monotonic()
        for receiver, deliveries in held.items():
            wanted = [delivery for delivery in deliveries if not delivery.submission.is_canceled]
            try:
                if wanted:
                    receiver.receive(wanted)
            except RuntimeError:  # an event loop that was closed: nobody waits for these answers
                for delivery in wanted:
                    self._forget(delivery.submission)

"""Serve one loaded model to many: one engine thread for the sessions and direct answers of all callers.

In: a ModelEngine; then requests from any event loop, and sessions in worker threads. Out: pieces of direct answers; engines whose
conversations are computed by the thread. Answers equal those of the ModelEngine alone, to the bit with the compiled kernel,
whatever else is running. A caller that leaves costs at most the running step.
Memory: the slots, as far as they are filled (2 kB per token for the default model). An event loop wakes up once per step for all of
its answers; while it is busy, tokens collect and become one piece.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from assistant.conversation.events import Done, Message
from assistant.inference.direct_answers import AnswerPiece, AnswerWriter, DirectRequest
from assistant.inference.local import ModelEngine
from assistant.inference.text_tokens import TextTokens
from model.constraints.offered_calls import encode_offered_turn
from model.inference.batching import Ending, Generation, TokenDetail
from model.inference.token_controls import LogitControls
from model.serving.engine_thread import Delivery, EngineThread, QueueFullError, Submission
from model.serving.served_prefix import ServedPrefix
from model.tokenizer.chat import encode_prompt

if TYPE_CHECKING:
    from model.constraints.constraint_compiler import ConstraintCompiler


class EngineBusyError(RuntimeError):
    """As many requests wait as may."""


class EngineDeadlineError(RuntimeError):
    """A request waited longer than its deadline."""


class ConstraintFailedError(RuntimeError):
    """A constraint that can't go on: the answer ends with this error, never unconstrained."""


class EngineFailedError(RuntimeError):
    """A step of the engine failed."""


@dataclass(frozen=True)
class ServingSizes:
    """How much is served at once. `n_threads` 0: one per core that this process may use."""

    n_slots: int = 16
    n_waiting: int = 64
    n_threads: int = 0


class ServedModel:
    """A model and its engine thread. Thread-safe; close it when it is no longer used."""

    def __init__(self, engine: ModelEngine, sizes: ServingSizes | None = None) -> None:
        sizes = sizes or ServingSizes()
        n_threads = sizes.n_threads or _count_cores()
        self.engine, self.info, self.tokens = engine, engine.info, TextTokens(engine.tokenizer)
        batcher = engine.make_batcher(sizes.n_slots, n_threads)
        self._thread = EngineThread(batcher, n_slots=sizes.n_slots, n_waiting=sizes.n_waiting)
        tokenizer = engine.tokenizer
        self._call = tokenizer.get_special_id("call")
        self._stops = engine.stop_ids
        self._sessions: dict[str, ModelEngine] = {}
        self._compiler: ConstraintCompiler | None = None
        self._lock = Lock()
        self._receivers: dict[asyncio.AbstractEventLoop, _LoopReceiver] = {}

    @property
    def n_active(self) -> int:
        """The number of answers that are generated."""
        return self._thread.n_active

    @property
    def n_waiting(self) -> int:
        """The number of answers that wait for a slot."""
        return self._thread.n_waiting

    def make_session_engine(self, owner: str) -> ModelEngine:
        """Return the engine of an owner's sessions, which is always the same one."""
        with self._lock:
            if owner not in self._sessions:
                self._sessions[owner] = self.engine.with_prefixes(lambda: ServedPrefix(self._thread, owner))
            return self._sessions[owner]

    def encode_messages(self, messages: tuple[Message, ...]) -> list[int]:
        """Return the prompt that asks for a reply, with calls of any tools; nothing is left out of it."""
        tokenizer = self.engine.tokenizer
        cleaned = [_clean(message) for message in messages]
        return encode_prompt(cleaned, tokenizer, lambda message: encode_offered_turn(message, tokenizer))

    def encode_text(self, text: str) -> list[int]:
        """Return the prompt that asks for a continuation of a text; nothing is left out of it."""
        return [self.engine.tokenizer.get_special_id("bos"), *self.tokens.encode(text)]

    async def answer(self, request: DirectRequest) -> AsyncGenerator[AnswerPiece, None]:
        """Answer directly; closing the generator cancels the answer.

        Raises: ValueError for a prompt that is too long or a constraint that can't be compiled; EngineBusyError,
        EngineDeadlineError, ConstraintFailedError, EngineFailedError.
        """
        generation = await self._prepare(request)
        may_call = request.constraint is not None and request.constraint.kind == "tools"
        writer = AnswerWriter(self.engine.tokenizer, request.controls.stop, may_call, f"call_{secrets.token_hex(12)}")
        started, first = time.perf_counter(), 0.0
        receiver = self._get_receiver()
        try:
            submission = self._thread.submit(generation, receiver)
        except QueueFullError as error:
            raise EngineBusyError(str(error)) from None
        stream = receiver.open(submission)
        ending: Ending | None = None
        try:
            while ending is None and not writer.is_stopped:
                deliveries = await stream.take()
                first = first or time.perf_counter() - started
                ids = [each.id for each in deliveries if each.id is not None]
                details = [each.detail for each in deliveries if each.id is not None]
                text, tokens = writer.write(ids, [each if isinstance(each, TokenDetail) else None for each in details])
                if text or tokens:
                    yield AnswerPiece(text, tuple(tokens))
                last = deliveries[-1].detail
                ending = last if isinstance(last, Ending) else None
        finally:
            receiver.close(submission)
            if ending is None:
                self._thread.cancel(submission)
        _raise_failure(ending)
        seconds = time.perf_counter() - started
        text, tokens, call = writer.finish()
        reason = "stop" if writer.is_stopped else ending.reason if ending else "end"
        reason = "tool_calls" if call is not None and reason == "end" else reason
        n_reused = ending.n_reused if ending else 0
        done = Done(len(request.prompt), writer.n_tokens, seconds, first, reason, n_reused)
        yield AnswerPiece(text, tuple(tokens), call, done)

    async def _prepare(self, request: DirectRequest) -> Generation:
        controls = request.controls
        constraint = None
        if request.constraint is not None:
            compiler = self._get_compiler()
            constraint = (await asyncio.to_thread(compiler.compile, request.constraint)).start()
        may_call = request.constraint is not None and request.constraint.kind == "tools"
        limit = request.deadline_seconds
        return Generation(
            request.prompt,
            request.sampling,
            self._stops,
            LogitControls(
                frequency_penalty=controls.frequency_penalty,
                presence_penalty=controls.presence_penalty,
                logit_bias=controls.logit_bias,
                min_tokens=controls.min_tokens,
                n_logprobs=controls.n_logprobs,
                constraint=constraint,
            ),
            owner=request.owner,
            banned=-1 if may_call else self._call,
            expires_at=float("inf") if limit is None else time.monotonic() + limit,
        )

    def forget(self, owner: str) -> None:
        """Drop what is cached of an owner's texts."""
        self._thread.tell(lambda batcher: batcher.forget(owner))

    def wait_idle(self, seconds: float | None = None) -> bool:
        """Wait until nothing is generated. Return whether that is so."""
        return self._thread.wait_idle(seconds)

    def close(self) -> None:
        """End the thread; answers that are running end with an error."""
        self._thread.close()

    def _get_compiler(self) -> ConstraintCompiler:
        with self._lock:
            if self._compiler is None:
                from model.constraints.constraint_compiler import ConstraintCompiler  # here: 20 MB

                self._compiler = ConstraintCompiler(self.engine.tokenizer, self.info.vocab_size)
            return self._compiler

    def _get_receiver(self) -> _LoopReceiver:
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._receivers:
                self._receivers = {each: one for each, one in self._receivers.items() if not each.is_closed()}
                self._receivers[loop] = _LoopReceiver(loop)
            return self._receivers[loop]


class _AnswerStream:
    """The events of one answer that its reader has not taken yet. Used in its event loop only."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._deliveries = loop, list[Delivery]()
        self._arrival: asyncio.Future[None] | None = None

    def push(self, delivery: Delivery) -> None:
        self._deliveries.append(delivery)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def take(self) -> list[Delivery]:
        """Wait for events. Return all that there are."""
        if not self._deliveries:
            self._arrival = self._loop.create_future()
            await self._arrival
        deliveries, self._deliveries = self._deliveries, []
        return deliveries


class _LoopReceiver:
    """Takes the events of all answers of one event loop, which is woken once for all that have come since it was last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: list[Delivery] = []
        self._lock = Lock()
        self._streams: dict[Submission, _AnswerStream] = {}

    def open(self, submission: Submission) -> _AnswerStream:
        stream = self._streams[submission] = _AnswerStream(self._loop)
        return stream

    def close(self, submission: Submission) -> None:
        del self._streams[submission]

    def receive(self, deliveries: list[Delivery]) -> None:
        with self._lock:
            is_woken = bool(self._pending)
            self._pending += deliveries
        if not is_woken:
            self._loop.call_soon_threadsafe(self._hand_out)

    def _hand_out(self) -> None:
        with self._lock:
            deliveries, self._pending = self._pending, []
        for delivery in deliveries:
            if (stream := self._streams.get(delivery.submission)) is not None:
                stream.push(delivery)


def _raise_failure(ending: Ending | None) -> None:
    if ending is None or ending.reason not in ("error", "expired"):
        return
    if ending.reason == "expired":
        raise EngineDeadlineError("the engine is busy; found no free slot before the deadline; try again later.")
    error = ending.error
    if type(error).__name__ == "StuckConstraintError":
        raise ConstraintFailedError(str(error)) from error
    if isinstance(error, ValueError):
        raise error
    raise EngineFailedError(f"the engine failed; found {type(error).__name__}; try again.") from error


def _clean(message: Message) -> Message:
    """Return a message without lone surrogates, which no token has."""
    text = message.text.encode("utf-8", "replace").decode()
    return message if text == message.text else replace(message, parts=Message.of(message.role, text).parts)


def _count_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

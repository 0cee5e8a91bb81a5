"""Answer one request: rights, input, admission, then the assistant's session or the model itself, every text checked on its way.

    async with answering.open(request) as answer:
        async for event in answer.stream(0): …

In: an AnswerRequest. Out: the events of a session, pieces of a direct answer, and the decisions of the policy. A refused input is
an answer too: the policy's sentence, with reason content_filter. Whoever leaves cancels what is computed for them. Every request is
recorded once, however it ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import Executor, Future
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace

from assistant.conversation.events import Done, Event, Message, Notice, TextPiece, ToolCall
from service.answers.answer_request import AnswerRequest
from service.answers.assistants import Assistants
from service.answers.fit_rounds import fit_rounds
from service.answers.interfaces import (
    AnswerOutcome,
    AnswerRecorder,
    Authorizer,
    ContentPolicy,
    Decision,
    DirectPiece,
    Limiter,
    Place,
)
from service.answers.output_check import CONTENT_FILTER, OutputCheck
from service.answers.permission import require_permission
from service.answers.stream_from_thread import stream_from_thread
from service.service_error import ServiceError

AnswerEvent = Event | DirectPiece | Decision
REFUSED = "I can't help with that."  # where a policy blocks and gives no sentence
RESERVED_FRAC = 0.25  # of the window, at most, for the answer: a longer one ends where the window does
REMOVED = "[removed by the policy]"
_PLACES: dict[str, Place] = {"user": "input", "tool": "tool_result"}  # of messages that are checked
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class AnswerParts:
    """What an answer passes. Without a content policy nothing is checked or held back; without a limiter all are admitted."""

    assistants: Assistants
    workers: Executor
    authorizer: Authorizer | None = None
    content: ContentPolicy | None = None
    limiter: Limiter | None = None
    recorders: tuple[AnswerRecorder, ...] = ()
    max_open: int = 0  # answers at once, those that wait included; 0: any number


@dataclass
class _Account:
    """What has been answered so far, over all choices."""

    started: float = field(default_factory=time.monotonic)
    first_at: float | None = None
    texts: dict[int, list[str]] = field(default_factory=dict[int, list[str]])
    n_prompt_tokens: int = 0
    n_tokens: int = 0
    reason: str = ""
    error: str = ""

    def add(self, choice: int, event: AnswerEvent) -> None:
        if isinstance(event, TextPiece | DirectPiece) and event.text:
            self.first_at = self.first_at or time.monotonic()
            self.texts.setdefault(choice, []).append(event.text)
        done = event if isinstance(event, Done) else event.done if isinstance(event, DirectPiece) else None
        if done is not None:
            self.n_prompt_tokens, self.n_tokens = (
                self.n_prompt_tokens + done.n_prompt_tokens,
                self.n_tokens + done.n_tokens,
            )
            self.reason = done.reason

    def close(self) -> AnswerOutcome:
        now = time.monotonic()
        texts = ["".join(self.texts[choice]) for choice in sorted(self.texts)]
        first = (self.first_at or now) - self.started
        return AnswerOutcome(
            self.reason or "end",
            "\n".join(texts),
            self.n_prompt_tokens,
            self.n_tokens,
            now - self.started,
            first,
            self.error,
        )


class Answering:
    """Opens answers. One per process."""

    def __init__(self, parts: AnswerParts) -> None:
        self.parts = parts
        self.n_open = 0
        self.is_draining = False

    def find_refusal(self) -> ServiceError | None:
        """Return why no answer can begin now; None if one can. Cheap: it is asked before a request is parsed, too."""
        if self.is_draining:
            message = "the service is shutting down; found a new request; send it again."
            return ServiceError(503, message, code="shutting_down", retry_after=1)
        if 0 < self.parts.max_open <= self.n_open:
            message = f"the service is busy; found {self.n_open} requests in progress; send it again in a second."
            return ServiceError(429, message, code="overloaded", retry_after=1)
        return None

    @asynccontextmanager
    async def open(self, request: AnswerRequest) -> AsyncGenerator[OpenAnswer, None]:
        """Check and admit a request. Leaving the context waits until the record is durable: send the last bytes after it.

        Raises: ServiceError for what may not be answered, or not now; at the end if the answer could not be recorded.
        """
        if (refusal := self.find_refusal()) is not None:
            raise refusal
        account = _Account()
        self._record(lambda recorder: recorder.begin(request))
        self.n_open += 1
        try:
            async with self._admit(request, account) as answer:
                yield answer
        except (GeneratorExit, asyncio.CancelledError):
            account.reason = "cancelled"
            raise
        except ServiceError as error:
            account.reason, account.error = "error", error.code or str(error.status)
            raise
        except Exception as error:
            account.reason, account.error = "error", type(error).__name__
            raise
        finally:
            self.n_open -= 1
            outcome = replace(account.close(), lineage=self.parts.assistants.inference.description.lineage)
            stored = [self._end(recorder, request, outcome) for recorder in self.parts.recorders]
        for future in stored:
            if future is not None:  # what has been answered is on disk before the client has all of it
                await asyncio.wrap_future(future)

    @asynccontextmanager
    async def _admit(self, request: AnswerRequest, account: _Account) -> AsyncGenerator[OpenAnswer, None]:
        parts = self.parts
        self._authorize(request)
        request, refusal = await self._check_input(request)
        request, notice = self._fit(request)
        answer = OpenAnswer(parts, request, account, self._observe, refusal, notice)
        if parts.limiter is None:
            yield answer
            return
        n_prompt = sum(parts.assistants.inference.count_tokens(message.text) for message in request.messages)
        async with parts.limiter.admit(request.caller, n_prompt + request.n * request.sampling.max_tokens) as admission:
            answer.headers = dict(admission.headers)
            try:
                yield answer
            finally:
                admission.correct(account.n_prompt_tokens + account.n_tokens)

    def _fit(self, request: AnswerRequest) -> tuple[AnswerRequest, str]:
        """Return the request as it fits into the window, and what is said about what does not. Raises: ServiceError 400."""
        if not request.messages:
            return request, ""
        inference = self.parts.assistants.inference
        window = inference.description.seq_len
        reserved = min(request.sampling.max_tokens, round(window * RESERVED_FRAC))
        fitted = fit_rounds(
            request.messages,
            inference.count_message,
            window=window,
            reserved=reserved,
            truncation=request.truncation,
        )
        return replace(request, messages=fitted.messages), fitted.notice

    def _authorize(self, request: AnswerRequest) -> None:
        profile = self.parts.assistants.load_profile(request.profile)
        if request.is_direct and profile is not None and profile.grounding == "only":
            raise ServiceError(
                400,
                f"model: the profile {request.profile} answers from its sources only; found a request for the model itself "
                "(tools, response_format, logprobs, penalties or logit_bias); leave those out, or use another model.",
                code="unsupported_for_profile",
                param="model",
            )
        if self.parts.authorizer is None:
            return
        action = "answer_direct" if request.is_direct else "answer"
        context = {"api": request.api, "profile": request.profile}
        decision = self.parts.authorizer.authorize(request.caller, action, request.profile, context)
        self._observe(request, decision)
        require_permission(decision, action)

    async def _check_input(self, request: AnswerRequest) -> tuple[AnswerRequest, str | None]:
        """Return the request as it may be answered, and the sentence that is said instead of an answer if it may not."""
        content = self.parts.content
        if content is None or not content.is_checked(request.caller, "input", request.profile):
            return request, None
        check = content.check
        loop, caller = asyncio.get_running_loop(), request.caller
        messages = list(request.messages)
        for number, message in enumerate(messages):
            place = _PLACES.get(message.role)
            if place is None or not message.text:
                continue
            decision = await loop.run_in_executor(
                self.parts.workers, check, caller, place, message.text, request.profile
            )
            is_last = number == len(messages) - 1
            if is_last or decision.action != "allow":
                self._observe(request, decision)
            if decision.action == "block" and is_last:
                return request, decision.text or REFUSED
            if decision.action == "block" or (decision.action == "mask" and decision.text is not None):
                text = REMOVED if decision.action == "block" else decision.text or ""
                messages[number] = _replace_text(message, text)
        if request.prompt is not None:
            decision = await loop.run_in_executor(
                self.parts.workers, check, caller, "input", request.prompt, request.profile
            )
            self._observe(request, decision)
            if not decision.is_allowed:
                return request, decision.text or REFUSED
            if decision.action == "mask" and decision.text is not None:
                request = replace(request, prompt=decision.text)
        return replace(request, messages=tuple(messages)), None

    def _end(self, recorder: AnswerRecorder, request: AnswerRequest, outcome: AnswerOutcome) -> Future[None] | None:
        try:
            return recorder.end(request, outcome)
        except Exception:
            _LOG.exception("a recorder failed")
            return None

    def _observe(self, request: AnswerRequest, event: AnswerEvent) -> None:
        self._record(lambda recorder: recorder.observe(request, event))

    def _record(self, record: Callable[[AnswerRecorder], None]) -> None:
        for recorder in self.parts.recorders:
            try:
                record(recorder)
            except Exception:  # what is wrong with a record must not end an answer
                _LOG.exception("a recorder failed")


class OpenAnswer:
    """An admitted request. `stream` gives one of its choices."""

    def __init__(
        self,
        parts: AnswerParts,
        request: AnswerRequest,
        account: _Account,
        observe: Callable[[AnswerRequest, AnswerEvent], None],
        refusal: str | None,
        notice: str = "",
    ) -> None:
        self.request = request
        self.headers: dict[str, str] = {}  # of the response: what is left of the caller's limits
        self._parts, self._account, self._observe = parts, account, observe
        self._refusal, self._notice = refusal, notice

    async def stream(self, choice: int = 0) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of one choice, the last of which is the end. Raises: ServiceError."""
        events = self._refuse() if self._refusal is not None else self._check_output(self._generate(choice))
        if self._notice and self._refusal is None:
            yield Notice(self._notice)
        async with aclosing(events):
            async for event in events:
                self._account.add(choice, event)
                self._observe(self.request, event)
                yield event

    async def _refuse(self) -> AsyncGenerator[AnswerEvent, None]:
        yield TextPiece(self._refusal or REFUSED)
        yield Done(0, 0, 0.0, 0.0, CONTENT_FILTER)

    def _generate(self, choice: int) -> AsyncGenerator[Event | DirectPiece, None]:
        return self._generate_directly(choice) if self.request.is_direct else self._run_session(choice)

    async def _generate_directly(self, choice: int) -> AsyncGenerator[DirectPiece | ToolCall, None]:
        pieces = self._parts.assistants.inference.generate(self.request, choice)
        try:
            async for piece in pieces:
                yield piece
        except ValueError as error:
            raise ServiceError(400, str(error)) from error
        finally:
            if (close := getattr(pieces, "aclose", None)) is not None:
                await close()

    async def _run_session(self, choice: int) -> AsyncGenerator[Event, None]:
        request, assistants = self.request, self._parts.assistants
        sampling = replace(request.sampling, seed=(request.sampling.seed + choice) % 2**63)

        def run() -> Generator[Event, None, None]:
            session = assistants.open_session(request)
            pieces: list[str] = []
            for event in session.respond(sampling):
                if isinstance(event, TextPiece):
                    pieces.append(event.text)
                yield event
            if request.n == 1:
                assistants.keep_session(request, session, "".join(pieces))

        try:
            async for event in stream_from_thread(self._parts.workers, run):
                yield event
        except ValueError as error:
            raise ServiceError(400, str(error)) from error

    async def _check_output(
        self, events: AsyncGenerator[Event | DirectPiece, None]
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events as they may be shown; text is held back by a sentence where the policy checks it."""
        content, request = self._parts.content, self.request
        async with aclosing(events):
            if content is None or not content.is_checked(request.caller, "output", request.profile):
                async for event in events:
                    yield event
                return
            check = OutputCheck(lambda text: content.check(request.caller, "output", text, request.profile))
            loop = asyncio.get_running_loop()
            async for event in events:
                shown: Sequence[AnswerEvent] = (
                    await loop.run_in_executor(self._parts.workers, check.add, event)
                    if check.is_due(event)
                    else check.add(event)
                )
                for each in shown:
                    yield each
                if check.is_blocked:
                    return
            for each in await loop.run_in_executor(self._parts.workers, check.finish):
                yield each


def _replace_text(message: Message, text: str) -> Message:
    """Return a message with another text."""
    if message.role == "tool":
        return Message.result(text, message.call_id)
    return Message.of(message.role, text)

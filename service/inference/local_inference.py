"""Serve a model in this process: the `Inference` over one model folder, which can be exchanged while it is used.

In: requests. Out: pieces of direct answers, and engines for sessions. Prompts are never cut here: one that leaves no room for an
answer is refused with its token counts.

`swap` loads another version beside the present one. From then on new answers come from the new one; those that are running end on
the old one, whose memory is freed after the last of them. A version that can't be loaded changes nothing. A session that lives
longer takes the new version for its next answer.
Memory: the weights, twice during a swap; the slots, as far as they are filled.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from assistant.conversation.events import (
    ConversationCache,
    Engine,
    Event,
    Message,
    ReplyOptions,
    Sampling,
    ToolCall,
)
from assistant.inference.direct_answers import AnswerPiece, DirectRequest
from assistant.inference.served_model import (
    ConstraintFailedError,
    EngineBusyError,
    EngineDeadlineError,
    EngineFailedError,
    ServedModel,
    ServingSizes,
)
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import ChosenToken, DirectPiece, ModelDescription
from service.inference.model_version import ModelVersion
from service.service_error import ServiceError

_LOG = logging.getLogger(__name__)
RETRY_SECONDS = 1.0  # after which a client may try again: about the time of one answer


@dataclass(frozen=True)
class EngineLoad:
    """How busy the engine is."""

    n_active: int
    n_waiting: int


class LocalInference:
    """An `Inference` in this process. Create it with `LocalInference.load(folder)`; close it at the end."""

    def __init__(self, version: ModelVersion, make_version: Callable[[Path], ModelVersion], deadline: float) -> None:
        self._version, self._make_version, self._deadline = version, make_version, deadline
        self._lock = threading.Lock()  # of the present version
        self._swapping = threading.Lock()
        self._is_closed = False
        self._preparers: list[Callable[[Path], None]] = []
        self._listeners: list[Callable[[Path], None]] = []

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        adapters: Path | None = None,
        weights: str | None = None,
        sizes: ServingSizes | None = None,
        deadline_seconds: float = 60.0,
    ) -> LocalInference:
        """Load a model folder and compile its kernel. Raises: ValueError for a missing, damaged or changed folder."""

        def make_version(folder: Path) -> ModelVersion:
            return ModelVersion.load(folder, adapters=adapters, weights=weights, sizes=sizes)

        return cls(make_version(folder), make_version, deadline_seconds)

    @property
    def description(self) -> ModelDescription:
        return self._version.description

    @property
    def load_now(self) -> EngineLoad:
        """How busy the engine is."""
        served = self._version.served
        return EngineLoad(served.n_active, served.n_waiting)

    @property
    def folder(self) -> Path:
        """The model folder that is served, without links."""
        return self._version.folder

    def before_swap(self, prepare: Callable[[Path], None]) -> None:
        """Call `prepare` with the model folder before it is loaded; its ValueError refuses the whole version."""
        self._preparers.append(prepare)

    def on_swap(self, listener: Callable[[Path], None]) -> None:
        """Call `listener` with the model folder after each swap."""
        self._listeners.append(listener)

    def swap(self, folder: Path) -> ModelDescription:
        """Serve another model folder from now on; blocks while it is loaded. Raises: ValueError for one that can't be used:
        the present one stays."""
        with self._swapping:
            for prepare in self._preparers:
                prepare(Path(os.path.realpath(folder)))
            version = self._make_version(folder)
            with self._lock:
                if self._is_closed:
                    version.close()
                    raise ValueError("the service is ending; found a new version to load; start it again.")
                before, self._version = self._version, version
            threading.Thread(target=before.retire, name="retire-version", daemon=True).start()
            for listener in self._listeners:
                listener(version.folder)
        return version.description

    def drain(self, seconds: float) -> bool:
        """Wait until nothing is generated any more. Return whether that is so."""
        return self._version.wait_unused(seconds)

    def close(self) -> None:
        """End the engine; answers that are running end with an error."""
        with self._lock:
            self._is_closed = True
        self._version.close()

    def forget(self, tenant: str) -> None:
        """Drop what is cached of a tenant's texts."""
        self._version.forget(tenant)

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncGenerator[DirectPiece | ToolCall, None]:
        """Answer directly; closing the generator cancels the answer within one step. Raises: ServiceError."""
        with self.use() as version:
            asked = self._make_request(version.served, request, choice)
            param = "response_format" if request.constraint is None or request.constraint.kind != "tools" else "tools"
            try:
                async with aclosing(version.served.answer(asked)) as pieces:
                    async for piece in pieces:
                        for item in _translate(piece):
                            yield item
            except ValueError as error:
                raise ServiceError(400, str(error), code="invalid_constraint", param=param) from error
            except ConstraintFailedError as error:
                message = f"the constraint can't be followed to its end; found {error}; simplify it."
                raise ServiceError(400, message, code="constraint_failed", param=param) from error
            except EngineBusyError as error:
                raise ServiceError(429, str(error), code="queue_full", retry_after=RETRY_SECONDS) from error
            except EngineDeadlineError as error:
                raise ServiceError(503, str(error), code="deadline", retry_after=RETRY_SECONDS) from error
            except EngineFailedError as error:
                raise ServiceError(503, str(error), code="engine_failed", retry_after=RETRY_SECONDS) from error

    def _make_request(self, served: ServedModel, request: AnswerRequest, choice: int) -> DirectRequest:
        is_text = request.prompt is not None
        prompt = served.encode_text(request.prompt or "") if is_text else served.encode_messages(request.messages)
        seq_len, param = served.info.seq_len, "prompt" if is_text else "messages"
        if len(prompt) >= seq_len:
            raise ServiceError(
                400,
                f"{param} must leave room for an answer in the context of {seq_len} tokens; found {len(prompt)} tokens; "
                "shorten the text.",
                code="context_length_exceeded",
                param=param,
            )
        sampling = replace(request.sampling, seed=(request.sampling.seed + choice) % 2**63)
        deadline = self._deadline if request.deadline_seconds is None else request.deadline_seconds
        return DirectRequest(prompt, sampling, request.controls, request.constraint, request.caller.tenant, deadline)

    def get_engine(self, tenant: str, adapter: str = "") -> Engine:
        """Return the engine of a session. Raises: ServiceError 400 for an unknown adapter."""
        try:
            with self.use() as version:
                version.get_served(adapter)
        except ValueError as error:
            raise ServiceError(400, str(error), code="unknown_adapter", param="model") from error
        return TenantEngine(self, tenant, adapter)

    def count_tokens(self, text: str) -> int:
        return len(self.tokenize(text))

    def count_message(self, message: Message) -> int:
        """Return the tokens of a whole turn."""
        return self._version.served.tokens.count_turn(message)

    def tokenize(self, text: str) -> list[int]:
        return self._version.served.tokens.encode(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        return self._version.served.tokens.decode(ids)

    @contextmanager
    def use(self) -> Generator[ModelVersion]:
        """Use the present version, which stays until the last use has ended."""
        with self._lock:
            version = self._version
            version.acquire()
        try:
            yield version
        finally:
            version.release()


class TenantEngine:
    """The engine of a tenant's sessions: each answer takes the version that is served when it begins."""

    def __init__(self, inference: LocalInference, tenant: str, adapter: str) -> None:
        self._inference, self._tenant, self._adapter = inference, tenant, adapter

    @property
    def is_chat(self) -> bool:
        """Whether it can hold a conversation; a base model can only continue a text."""
        return self._inference.description.phase != "pretrain"

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        """Yield the events of a reply."""
        with self._inference.use() as version:
            engine = version.get_served(self._adapter).make_session_engine(self._tenant)
            yield from engine.reply(messages, sampling, cache, options)

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        """Yield the events of a continuation."""
        with self._inference.use() as version:
            engine = version.get_served(self._adapter).make_session_engine(self._tenant)
            yield from engine.continue_text(text, sampling)


class ChampionWatch:
    """Swaps a served model when the folder that it was loaded from leads elsewhere, as `pull` does after a promotion or rollback.

    `problem` says why the newest version is not served; empty: it is.
    """

    def __init__(self, inference: LocalInference, folder: Path, seconds: float = 2.0) -> None:
        self._inference, self._folder, self._seconds = inference, folder, seconds
        self._refused: Path | None = None
        self.problem = ""
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="champion-watch", daemon=True)

    def start(self) -> None:
        """Look at the folder from time to time."""
        self._thread.start()

    def close(self) -> None:
        """Stop looking; waits for a swap that is running."""
        self._is_ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> bool:
        """Swap if the folder leads to another version. Return whether it did. A version that was refused is not tried again."""
        target = self._folder.resolve()
        if target in (self._inference.folder, self._refused) or not target.is_dir():
            return False
        try:
            self._inference.swap(target)
        except ValueError as error:
            self._refused, self.problem = target, str(error)
            _LOG.error("the newest version is refused, the present one stays: %s", error)
            return False
        self._refused, self.problem = None, ""
        return True

    def _run(self) -> None:
        while not self._is_ending.wait(self._seconds):
            self.check()


def _translate(piece: AnswerPiece) -> Iterator[DirectPiece | ToolCall]:
    tokens = tuple(
        ChosenToken(
            token.id,
            _decode(token.bytes),
            tuple(token.bytes),
            token.logprob,
            tuple((_decode(each), tuple(each), logprob) for each, logprob in token.alternatives),
        )
        for token in piece.tokens
    )
    if piece.call is not None:
        yield piece.call
    if piece.text or tokens or piece.done is not None:
        yield DirectPiece(piece.text, tokens, piece.done)


def _decode(token: bytes) -> str:
    return token.decode("utf-8", "replace")

"""Serve a model in this process: the `Inference` over one loaded model folder.

In: requests. Out: pieces of direct answers, and engines for sessions. Prompts are never cut here: one that leaves no room for an
answer is refused with its token counts.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from assistant.conversation.events import Done, Engine, Message
from assistant.inference.adapters import AdapterEngines, get_adapters_folder
from assistant.inference.local import ModelEngine
from assistant.inference.text_assembler import TextAssembler
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import DirectPiece, ModelDescription
from service.errors import ServiceError

N_FRAME_TOKENS = 2  # of a prompt beside its turns


class LocalInference:
    """An `Inference` in this process. Create it with `LocalInference.load(folder)`."""

    def __init__(self, engine: ModelEngine, description: ModelDescription, adapters: Path) -> None:
        self._engine, self._description = engine, description
        self._adapters = AdapterEngines(engine, adapters)

    @classmethod
    def load(cls, folder: Path, *, adapters: Path | None = None, weights: str | None = None) -> LocalInference:
        """Load a model folder and compile its kernel. Raises: ValueError for a missing, damaged or changed folder."""
        engine = ModelEngine.load(folder, weights=weights)
        engine.wait()
        return cls(engine, describe_model(engine), adapters or get_adapters_folder())

    @property
    def description(self) -> ModelDescription:
        return self._description

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncIterator[DirectPiece]:
        """Answer directly. Raises: ServiceError 400 for a prompt that is too long."""
        prompt = self._encode(request)
        seed = (request.sampling.seed + choice) % 2**63
        ids = self._engine.stream_ids(prompt, replace(request.sampling, seed=seed))
        assembler, started, first, n = TextAssembler(request.controls.stop), time.perf_counter(), 0.0, 0
        while (index := await asyncio.to_thread(next, ids, None)) is not None:
            first, n = first or time.perf_counter() - started, n + 1
            if text := assembler.feed(self._engine.get_token_bytes(index)):
                yield DirectPiece(text)
            if assembler.is_stopped:
                break
        reason = "length" if n == request.sampling.max_tokens else "end"
        done = Done(len(prompt), n, time.perf_counter() - started, first, reason)
        yield DirectPiece(assembler.finish(), done=done)

    def _encode(self, request: AnswerRequest) -> list[int]:
        if request.prompt is not None:
            prompt = self._engine.encode_text(request.prompt)
        else:
            prompt = self._engine.encode_messages(request.messages)
        seq_len = self._description.seq_len
        if len(prompt) >= seq_len:
            raise ServiceError(
                400,
                f"messages are too long; found {len(prompt)} tokens for a context of {seq_len}; shorten them, or set "
                'truncation to "auto".',
                code="context_length_exceeded",
                param="messages" if request.prompt is None else "prompt",
            )
        return prompt

    def get_engine(self, tenant: str, adapter: str = "") -> Engine:
        """Return the engine of a session. Raises: ServiceError 400 for an unknown adapter."""
        try:
            return self._adapters.get(adapter)
        except ValueError as error:
            raise ServiceError(400, str(error), code="unknown_adapter", param="model") from error

    def count_tokens(self, text: str) -> int:
        return len(self.tokenize(text))

    def count_message(self, message: Message) -> int:
        """Return the tokens of a whole turn."""
        return len(self._engine.encode_messages([message])) - N_FRAME_TOKENS

    def tokenize(self, text: str) -> list[int]:
        return self._engine.tokenize(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        return self._engine.detokenize(ids)


def describe_model(engine: ModelEngine) -> ModelDescription:
    """Return what is served; of a pulled champion also its name, its version and the hash of its statement of files."""
    info = engine.info
    name, version, lineage = "minigpt", "", dict[str, str]()
    folder = info.folder.parent
    if (folder / "version.json").is_file():
        stated = json.loads((folder / "version.json").read_text(encoding="utf-8"))
        name, version = str(stated["name"]), str(stated["version"])
    if (folder / "files.json").is_file():
        lineage = json.loads((folder / "files.json").read_text(encoding="utf-8"))
        lineage = {key: value for key, value in lineage.items() if key.startswith(("model/", "index/", "embed/"))}
    return ModelDescription(
        name, version, info.phase, info.seq_len, info.vocab_size, info.n_parameters, info.weights, lineage
    )

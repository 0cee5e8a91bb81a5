"""The one door to `model`: a model folder becomes something that answers, piece by piece.

In: a folder with config.json, model.safetensors, tokenizer.json; then messages and settings. Out: events. A prompt is
cut to the window before it is computed (the oldest rounds go first), so it can be as long as it likes. Memory: the
weights and one KV cache per answer, which belongs to that answer alone, so threads can share an engine.

On a CPU answers are written by model.decoder's compiled kernel, elsewhere by torch. Numba compiles it in the background from the
moment a model is loaded: some seconds once on a machine, half a second when it lies on disk. The first answer waits for it:
whoever writes it, an answer must not depend on the clock. `MINIGPT_WEIGHTS=int8` takes a quarter of the memory and half the time.

Covers: what a person or a tool says is ordinary text and can't open or close a turn; the model's own control tokens end its
turn and are never shown. Does not cover: what the model says. It is small, and it is wrong at times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from assistant.events import Done, Event, Message, Notice, Settings, TextPiece, ToolCall
from model.chat import fit, parse_reply, prompt_ids
from model.checkpoint import load_model
from model.decoder import Decoder
from model.generate import Sampling, stream
from model.tokenizer import SPECIAL_TOKENS, Tokenizer
from model.transformer import Transformer

MAX_CHARS_PER_TOKEN = 64  # a longer text than window × this is cut before it is even tokenized
RESERVED_FRAC = 0.25  # of the window, kept free for the answer
PATIENCE_SECONDS = 1.0  # without a word about why there is no answer yet
WEIGHTS = ("float32", "int8")

Writer = Callable[[Sequence[int], Sampling, Collection[int]], Iterator[int]]  # prompt, sampling, stop ids → ids


@dataclass(frozen=True)
class ModelInfo:
    """What there is to say about a loaded model. `phase` is pretrain or sft, `weights` how they are held in memory."""

    folder: Path
    phase: str
    device: str
    n_parameters: int
    weight_bytes: int
    seq_len: int
    vocab_size: int
    weights: str = "float32"


class ModelEngine:
    """`ModelEngine.load(folder)`; a base model (phase pretrain) can only continue a text, `is_chat` says so."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, info: ModelInfo) -> None:
        self._tokenizer, self.info = tokenizer, info
        self.is_chat = info.phase != "pretrain"
        self._call = tokenizer.special("call")
        self._stops = frozenset(range(len(SPECIAL_TOKENS))) - {self._call}
        background = ThreadPoolExecutor(1)
        self._writer = background.submit(_writer, model, info.weights)
        background.shutdown(wait=False)

    @classmethod
    def load(cls, folder: Path, *, device: str | None = None, weights: str | None = None) -> ModelEngine:
        """On the GPU if there is one and no device is named; `weights` is float32 or int8, else what MINIGPT_WEIGHTS says.
        Raises: ValueError for a missing or broken folder, or weights that there are not."""
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        weights = weights or os.environ.get("MINIGPT_WEIGHTS") or "float32"
        if weights not in WEIGHTS or (weights == "int8" and device != "cpu"):
            raise ValueError(
                f"weights (MINIGPT_WEIGHTS) must be float32, or int8 on a CPU; found {weights!r} on {device}; correct it."
            )
        if not folder.is_dir():
            raise ValueError(f"there is no model folder; not found: {folder}; train one (make run) or name another.")
        try:
            model, tokenizer, about = load_model(folder, device=device)
        except Exception as error:  # a broken file fails in many ways; tokenizers raises bare Exceptions
            if type(error) is ValueError:  # one of ours, which says all this better
                raise
            raise ValueError(
                f"the model in {folder} can't be read; found: {type(error).__name__}: {error}; train or pull it again."
            ) from error
        if about.get("kind") != "minigpt" or about.get("phase") not in ("pretrain", "sft"):
            raise ValueError(
                f"{folder / 'config.json'} is not a MiniGPT model's; found kind {about.get('kind')!r} and phase "
                f"{about.get('phase')!r}; name a folder that pretrain or sft wrote."
            )
        config, n_bytes = model.config, (folder / "model.safetensors").stat().st_size
        sizes = (config.n_parameters, n_bytes, config.seq_len, config.vocab_size)
        return cls(model, tokenizer, ModelInfo(folder, about["phase"], device, *sizes, weights))

    def wait(self) -> None:
        """Until answers come without delay; a service calls it before it takes requests."""
        self._writer.result()

    def reply(self, messages: Sequence[Message], settings: Settings) -> Iterator[Event]:
        """Text pieces or one tool call, at last Done. A Notice comes first when something had to be left out, or takes its time.
        Raises: ValueError for a message of no known role, or a window too small for the turns' own tokens."""
        cleaned = [self._cleaned(message) for message in messages]
        kept = fit(self._recent(cleaned), self._tokenizer, self.info.seq_len, self._n_reserved(settings))
        if len(kept) < len(messages):
            yield Notice(
                f"the window of {self.info.seq_len} tokens is full; the oldest of this conversation is left out"
            )
        elif _n_chars(kept) < _n_chars(messages):
            yield Notice(f"too long for the window of {self.info.seq_len} tokens; the middle of a message is left out")
        yield from self._notice_of_delay()
        run = self._run(prompt_ids(kept, self._tokenizer), settings, self._stops)
        first = next(run, -1)
        if first == self._call:
            yield self._tool_call([first, *run])
        elif first >= 0:
            yield from self._pieces(chain([first], run))
        yield run.done()

    def continuation(self, text: str, settings: Settings) -> Iterator[Event]:
        """Of a plain text, as in pretraining: what a base model can do. The beginning of a long text is left out."""
        n_room = self.info.seq_len - self._n_reserved(settings) - 1
        ids = self._tokenizer.encode(self._cleaned({"role": "user", "content": text})["content"])
        if len(ids) > n_room:
            yield Notice(f"too long for the window of {self.info.seq_len} tokens; its beginning is left out")
        prompt = [self._tokenizer.special("bos"), *ids[max(len(ids) - n_room, 0) :]]
        yield from self._notice_of_delay()
        run = self._run(prompt, settings, self._stops | {self._call})
        yield from self._pieces(run)
        yield run.done()

    def _notice_of_delay(self) -> Iterator[Notice]:
        if wait([self._writer], PATIENCE_SECONDS).not_done:
            yield Notice("once on this machine a kernel has to be compiled: some seconds more")

    def _run(self, prompt: list[int], settings: Settings, stops: frozenset[int]) -> _Run:
        return _Run(
            self._writer.result(), prompt, settings, stops, self._tokenizer.vocab_size, self.info.seq_len - len(prompt)
        )

    def _tool_call(self, ids: list[int]) -> Event:
        message = parse_reply(ids, self._tokenizer)
        call = message.get("call")
        return ToolCall(call["name"], call["argument"]) if call else TextPiece(message["content"])

    def _pieces(self, ids: Iterable[int]) -> Iterator[TextPiece]:
        return map(TextPiece, self._tokenizer.stream(ids))

    def _recent(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Without most of what can't fit anyway: `fit` counts every token again for each round that it drops."""
        starts = [number for number, message in enumerate(messages) if message.get("role") == "user"]
        n_tokens = 0
        for start, end in zip(reversed(starts), [len(messages), *reversed(starts)], strict=False):
            n_tokens += sum(len(self._tokenizer.encode(message["content"])) + 2 for message in messages[start:end])
            if n_tokens > self.info.seq_len:
                return [*messages[: starts[0]], *messages[start:]]
        return messages

    def _n_reserved(self, settings: Settings) -> int:
        return max(min(settings.max_tokens, int(self.info.seq_len * RESERVED_FRAC)), 1)

    def _cleaned(self, message: Message) -> dict[str, Any]:
        """Text that UTF-8 can hold, and not so much of it that tokenizing takes long."""
        content, half = message.get("content", ""), self.info.seq_len * MAX_CHARS_PER_TOKEN // 2
        if not isinstance(content, str):
            raise ValueError(f"a message's content must be text; found {type(content).__name__}; give a string.")
        if len(content) > 2 * half:
            content = f"{content[:half]}…{content[-half:]}"
        return {**message, "content": content.encode("utf-8", "replace").decode()}


def _writer(model: Transformer, weights: str) -> Writer:
    """Ready to write: on a CPU the kernel is compiled, and keeps its own copy of the weights in the place of the model's."""
    if model.embedding.weight.device.type != "cpu":
        return partial(stream, model)
    return Decoder(model, n_places=0, weights=weights).stream


def _n_chars(messages: Sequence[Message]) -> int:
    return sum(len(message.get("content", "")) for message in messages)


class _Run:
    """The ids of one answer, counted and timed as they come. Ids that the tokenizer doesn't know (rows that pad the
    embedding) are passed over."""

    def __init__(
        self, write: Writer, prompt: list[int], settings: Settings, stops: frozenset[int], n_known: int, n_room: int
    ) -> None:
        sampling = Sampling(
            max_new_tokens=settings.max_tokens,
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
            seed=settings.seed,
        )
        self._ids = write(prompt, sampling, stops)
        self._n_prompt, self._n_room, self._max_tokens = len(prompt), n_room, settings.max_tokens
        self._n_known = n_known
        self._n_tokens = 0
        self._started_at = self._first_at = self._last_at = time.perf_counter()

    def __iter__(self) -> _Run:
        return self

    def __next__(self) -> int:
        while True:
            index = next(self._ids)
            self._last_at = time.perf_counter()
            if not self._n_tokens:
                self._first_at = self._last_at
            self._n_tokens += 1
            if index < self._n_known:
                return index

    def done(self) -> Done:
        reason = "end"
        if self._n_tokens == min(self._max_tokens, self._n_room):
            reason = "length" if self._max_tokens <= self._n_room else "window"
        seconds = self._last_at - self._started_at
        return Done(self._n_prompt, self._n_tokens, seconds, self._first_at - self._started_at, reason)

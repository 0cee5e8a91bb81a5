"""The one door to the weights: a model folder becomes something that answers, piece by piece.

In: a folder with config.json, model.safetensors, tokenizer.json; then messages and sampling settings. Out: events. A prompt is
cut to the window before it is computed (the oldest rounds go first), so it can be as long as it likes. Memory: the
weights; what is cached belongs to a conversation (events.Memory), so threads can share an engine. With a memory, a message is
tokenized once and a turn computes only the tokens that the cache does not begin with: what was said since. Where the beginning
changes (the window is full and the oldest round goes, or another system prompt), the prompt is computed anew from there.

On a CPU answers are written by model.inference.decoder's compiled kernel, elsewhere by torch. Numba compiles it in the background from the
moment a model is loaded: some seconds once on a machine, half a second when it lies on disk. The first answer waits for it:
whoever writes it, an answer must not depend on the clock. `MINIGPT_WEIGHTS=int8` takes a quarter of the memory and half the time.

Covers: what a person or a tool says is ordinary text and can't open or close a turn; the model's own control tokens end its
turn and are never shown. Does not cover: what the model says. It is small, and it is wrong at times.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from assistant.conversation.events import ConversationCache, Done, Event, Message, Notice, Sampling, TextPiece
from model.inference.decoder import Decoder
from model.inference.generate import Prefix, TorchPrefix
from model.network.folder import load_model
from model.network.transformer import Transformer
from model.tokenizer.chat import EncodeTurn, Part, ToolCall, encode_prompt, encode_turn, fit, parse_reply
from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

MAX_CHARS_PER_TOKEN = 64  # a longer text than window × this is cut before it is even tokenized
RESERVED_FRAC = 0.25  # of the window, kept free for the answer
PATIENCE_SECONDS = 1.0  # without a word about why there is no answer yet
WEIGHTS = ("float32", "int8")

Writer = Callable[[], Prefix]  # an empty cache, which computes and writes


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
        self._call = tokenizer.get_special_id("call")
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

    def reply(
        self, messages: Sequence[Message], sampling: Sampling, memory: ConversationCache | None = None
    ) -> Iterator[Event]:
        """Text pieces or one tool call, at last Done. A Notice comes first when something had to be left out, or takes its time.
        What `memory` holds is not computed again. Raises: ValueError for a window too small for the turns' own tokens."""
        memory = self._own(memory or ConversationCache())
        encode = self._encoder(memory)
        cleaned = self._recent([self._cleaned(message) for message in messages], encode)
        kept = fit(cleaned, self._tokenizer, self.info.seq_len, self._n_reserved(sampling), encode)
        if len(kept) < len(messages):
            yield Notice(
                f"the window of {self.info.seq_len} tokens is full; the oldest of this conversation is left out"
            )
        elif _n_chars(kept) < _n_chars(messages):
            yield Notice(f"too long for the window of {self.info.seq_len} tokens; the middle of a message is left out")
        prompt = encode_prompt(kept, self._tokenizer, encode)
        memory.turns = {message: memory.turns[message] for message in dict.fromkeys([*cleaned, *kept])}
        yield from self._notice_of_delay()
        with closing(self._run(prompt, sampling, self._stops, memory)) as run:
            first = next(run, -1)
            if first == self._call:
                n_calls = sum(message.call is not None for message in messages)
                yield self._tool_call([first, *run], f"call_{n_calls + 1}")
            elif first >= 0:
                yield from self._pieces(chain([first], run))
            yield run.done()

    def continuation(self, text: str, sampling: Sampling) -> Iterator[Event]:
        """Of a plain text, as in pretraining: what a base model can do. The beginning of a long text is left out."""
        n_room = self.info.seq_len - self._n_reserved(sampling) - 1
        ids = self._tokenizer.encode(self._cleaned_text(text))
        if len(ids) > n_room:
            yield Notice(f"too long for the window of {self.info.seq_len} tokens; its beginning is left out")
        prompt = [self._tokenizer.get_special_id("bos"), *ids[max(len(ids) - n_room, 0) :]]
        yield from self._notice_of_delay()
        with closing(self._run(prompt, sampling, self._stops | {self._call}, ConversationCache())) as run:
            yield from self._pieces(run)
            yield run.done()

    def _own(self, memory: ConversationCache) -> ConversationCache:
        """Empty it if another engine filled it."""
        if memory.engine is not self:
            memory.engine, memory.turns, memory.prefix = self, {}, None
        return memory

    def _encoder(self, memory: ConversationCache) -> EncodeTurn:
        def encode(message: Message) -> list[int]:
            if message not in memory.turns:
                memory.turns[message] = encode_turn(message, self._tokenizer)
            return memory.turns[message]

        return encode

    def _notice_of_delay(self) -> Iterator[Notice]:
        if wait([self._writer], PATIENCE_SECONDS).not_done:
            yield Notice("once on this machine a kernel has to be compiled: some seconds more")

    def _run(self, prompt: list[int], sampling: Sampling, stops: frozenset[int], memory: ConversationCache) -> _Run:
        writer = self._writer.result()
        if memory.prefix is None:
            memory.prefix = writer()
        n_room = self.info.seq_len - len(prompt)
        return _Run(memory.prefix, prompt, sampling, stops, self._tokenizer.vocab_size, n_room)

    def _tool_call(self, ids: list[int], call_id: str) -> ToolCall | TextPiece:
        message = parse_reply(ids, self._tokenizer, call_id)
        return message.call or TextPiece(message.text)

    def _pieces(self, ids: Iterable[int]) -> Iterator[TextPiece]:
        return map(TextPiece, self._tokenizer.stream(ids))

    def _recent(self, messages: list[Message], encode: EncodeTurn) -> list[Message]:
        """Without most of what can't fit anyway, so that the oldest messages of a long history need not be tokenized."""
        starts = [number for number, message in enumerate(messages) if message.role == "user"]
        n_tokens = 0
        for start, end in zip(reversed(starts), [len(messages), *reversed(starts)], strict=False):
            n_tokens += sum(len(encode(message)) for message in messages[start:end])
            if n_tokens > self.info.seq_len:
                return [*messages[: starts[0]], *messages[start:]]
        return messages

    def _n_reserved(self, sampling: Sampling) -> int:
        return max(min(sampling.max_tokens, int(self.info.seq_len * RESERVED_FRAC)), 1)

    def _cleaned(self, message: Message) -> Message:
        if message.call is not None:
            call = message.call
            return replace(message, call=ToolCall.of(call.name, self._cleaned_text(call.argument), call.id))
        text = self._cleaned_text(message.text)
        return replace(message, parts=(Part(text),) if text else ())

    def _cleaned_text(self, text: str) -> str:
        """Text that UTF-8 can hold, and not so much of it that tokenizing takes long."""
        half = self.info.seq_len * MAX_CHARS_PER_TOKEN // 2
        if len(text) > 2 * half:
            text = f"{text[:half]}…{text[-half:]}"
        return text.encode("utf-8", "replace").decode()


def _writer(model: Transformer, weights: str) -> Writer:
    """Ready to write: on a CPU the kernel is compiled, and keeps its own copy of the weights in the place of the model's."""
    if model.embedding.weight.device.type != "cpu":
        return partial(TorchPrefix, model)
    return Decoder(model, n_slots=0, weights=weights).new_prefix


def _n_chars(messages: Sequence[Message]) -> int:
    return sum(len(message.text) for message in messages)


class _Run:
    """The ids of one answer, counted and timed as they come. Ids that the tokenizer doesn't know (rows that pad the
    embedding) are passed over."""

    def __init__(
        self, prefix: Prefix, prompt: list[int], sampling: Sampling, stops: frozenset[int], n_known: int, n_room: int
    ) -> None:
        self._ids, self._prefix = prefix.stream(prompt, sampling, stops), prefix
        self._n_prompt, self._n_room, self._max_tokens = len(prompt), n_room, sampling.max_tokens
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

    def close(self) -> None:
        """Let the next answer of the conversation begin, wherever this one stopped."""
        self._ids.close()

    def done(self) -> Done:
        reason = "end"
        if self._n_tokens == min(self._max_tokens, self._n_room):
            reason = "length" if self._max_tokens <= self._n_room else "window"
        seconds = self._last_at - self._started_at
        first = self._first_at - self._started_at
        return Done(self._n_prompt, self._n_tokens, seconds, first, reason, self._prefix.n_reused)

"""Load a model folder and generate answers with it. The only module of the assistant that loads weights.

In: a folder with config.json, model.safetensors, tokenizer.json; then messages and sampling settings. Out: events. A prompt is
fitted to the window before it is computed (the oldest rounds are dropped first), so a conversation may be of any length.
Memory: the weights; what is cached belongs to a conversation (events.ConversationCache), so threads can share an engine. With a
cache, a message is tokenized once, and a turn computes only the tokens after the longest cached prefix: those that are new.
Where the beginning changes (the window is full and rounds are dropped, or the system prompt is another), the prompt is
recomputed from there.

On a CPU, model.inference.decoder's compiled kernel generates; elsewhere torch does. Numba compiles the kernel in the background
as soon as a model is loaded: some seconds once per machine, half a second when it is cached on disk. The first answer waits for
it, because an answer must not depend on timing. `MINIGPT_WEIGHTS=int8` takes a quarter of the memory and two
thirds of the time, `int4` a fifth of the memory (docs/quantization.md).

Covers: text of users and tools is encoded as ordinary text and can't open or close a turn; control tokens that the model
generates end its turn and are never shown. Does not cover: the truth of an answer. The model is small and often wrong.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from assistant.conversation.events import (
    ConversationCache,
    Done,
    Event,
    Message,
    Notice,
    ReplyOptions,
    Sampling,
    TextPiece,
)
from model.grounding.answers import REFUSAL_OPENING
from model.inference.batching import Batcher
from model.inference.choose import choose
from model.inference.decoder import Decoder
from model.inference.prefix import Prefix
from model.network.hashes import FILES, check_version
from model.network.model_files import ModelArrays, read_model
from model.network.quantize import FORMATS, check_weights, count_weight_bytes
from model.tokenizer.chat import (
    EncodeTurn,
    Part,
    ToolCall,
    encode_prompt,
    encode_turn,
    parse_reply,
)
from model.tokenizer.histories import read_argument as read_argument  # for mlflow_agent.py: model has one door
from model.tokenizer.histories import read_content as read_content
from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer
from model.tokenizer.window import fit_to_window

if TYPE_CHECKING:
    from model.network.transformer import Transformer

MAX_CHARS_PER_TOKEN = 64  # a text longer than window × this is cut before it is tokenized
RESERVED_FRAC = 0.25  # of the window, reserved for the answer
PATIENCE_SECONDS = 1.0  # of waiting for the kernel before a notice explains the delay
WEIGHTS = FORMATS  # of a model in memory
PHASES = ("pretrain", "sft", "prefer", "distill")  # stages that write model folders
# By which a refusal must be more probable than the alternatives. Of 101 harmless requests (the seen half) 6.9 % are refused
# at 0 nats, 2.0 % at 1, 1.0 % at 2; of 62 unsafe ones by hand 87, 68, 40 %, of 200 made ones 61, 37, 17 %, of look-alikes
# 19, 8, 4 %. What is not refused gets the honest sentence or a search, which help nobody to do harm. Calibrate it anew when
# the mix of training changes.
MIN_REFUSAL_NATS = 1.5

NewPrefix = Callable[[], Prefix]  # returns an empty KV cache that generates answers


@dataclass(frozen=True)
class ModelInfo:
    """A loaded model. `phase` is pretrain or sft; `weights` is their format in memory."""

    folder: Path
    phase: str
    device: str
    n_parameters: int
    weight_bytes: int
    seq_len: int
    vocab_size: int
    weights: str = "float32"
    adapter: str = ""  # the folder of the adapter in its weights, if there is one


class _Candidates(NamedTuple):
    """Whole replies, their ids, and what is added to the log-probability of each; nothing if there are no bonuses."""

    replies: Sequence[str | ToolCall]
    ids: list[list[int]]
    bonuses: Sequence[float]


class ModelEngine:
    """Generates answers; create it with `ModelEngine.load(folder)`. `is_chat` is false for a base model (phase pretrain), which can
    only continue a text."""

    def __init__(
        self,
        model: Transformer | ModelArrays,
        tokenizer: Tokenizer,
        info: ModelInfo,
        base: Future[NewPrefix] | None = None,
    ) -> None:
        """Prepare the model in the background. `base`: the engine's whose tables are shared."""
        self._tokenizer, self.info = tokenizer, info
        self.is_chat = info.phase != "pretrain"
        self._call = tokenizer.get_special_id("call")
        self._stops = frozenset(range(len(SPECIAL_TOKENS))) - {self._call}
        background = ThreadPoolExecutor(1)
        self._new_prefix = background.submit(_prepare, model, info.weights, base)
        background.shutdown(wait=False)

    @classmethod
    def load(cls, folder: Path, *, device: str | None = None, weights: str | None = None) -> ModelEngine:
        """Load a model folder, by default onto the GPU if there is one. `weights` is one of WEIGHTS (default: MINIGPT_WEIGHTS).

        Raises: ValueError for a missing or damaged folder, an unknown format of weights, or a version whose files are not those
        that were published.
        """
        device = device or find_device()
        weights = weights or os.environ.get("MINIGPT_WEIGHTS") or "float32"
        if weights not in WEIGHTS or (weights != "float32" and device != "cpu"):
            raise ValueError(
                f"weights (MINIGPT_WEIGHTS) must be float32, or on a CPU {', '.join(WEIGHTS[1:])}; found {weights!r} on "
                f"{device}; set one of them."
            )
        if not folder.is_dir():
            raise ValueError(
                f"there is no model folder; not found: {folder}; train a model (make run) or name another folder."
            )
        if (folder.parent / FILES).exists():  # a version that was pulled from the registry
            check_version(folder.parent)
        try:
            model, tokenizer, about = read_model(folder) if device == "cpu" else _load_onto(device, folder)
        except Exception as error:  # a damaged file fails in many ways; tokenizers raises bare Exceptions
            if type(error) is ValueError:  # one of ours, with a better message
                raise
            raise ValueError(
                f"the model in {folder} can't be read; found {type(error).__name__}: {error}; train or pull it again."
            ) from error
        if about.get("kind") != "minigpt" or about.get("phase") not in PHASES:
            raise ValueError(
                f"{folder / 'config.json'} is not the configuration of a MiniGPT model; found kind {about.get('kind')!r} and phase "
                f"{about.get('phase')!r}; name a folder that {', '.join(PHASES)} wrote."
            )
        config, n_bytes = model.config, count_weight_bytes(model.config, weights)
        check_weights(weights, config)
        sizes = (config.n_parameters, n_bytes, config.seq_len, config.vocab_size)
        return cls(model, tokenizer, ModelInfo(folder, about["phase"], device, *sizes, weights))

    def adapt(self, folder: Path) -> ModelEngine:
        """Return an engine of this model with an adapter. Engines share no conversation's cache: another one starts it anew.

        Raises: ValueError for a folder that has no whole adapter, or the adapter of another model.
        """
        from model.network.adapter_folder import load_adapted_model  # here: only adapters need torch on a CPU

        model, tokenizer, about = load_adapted_model(self.info.folder, folder, device=self.info.device)
        info = replace(self.info, phase=about["phase"], adapter=str(folder))
        return ModelEngine(model, tokenizer, info, self._new_prefix)

    def wait(self) -> None:
        """Block until the kernel is compiled; a service calls this before it accepts requests."""
        self._new_prefix.result()

    def reply(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        cache: ConversationCache | None = None,
        options: ReplyOptions | None = None,
    ) -> Iterator[Event]:
        """Yield text pieces or one tool call, and finally Done. A Notice precedes them when messages are dropped or shortened, or
        when the kernel is still being compiled. What `cache` has is not computed again. Where `options` has candidates, one of
        them is chosen by its probability, whatever the sampling.

        Raises: ValueError if the window is too small for the control tokens.
        """
        cache, options = self._claim(cache or ConversationCache()), options or ReplyOptions()
        candidates = self._encode_candidates(options.answers, options.bonuses)
        encode = self._make_encoder(cache)
        cleaned = [self._clean(message) for message in messages]
        reserved = self._count_reserved(sampling, candidates.ids)
        kept = fit_to_window(cleaned, self._tokenizer, self.info.seq_len, reserved, encode)
        yield from self._notify_of_cuts(messages, cleaned, kept, cache)
        prompt = encode_prompt(kept, self._tokenizer, encode)
        cache.turns = {message: cache.turns[message] for message in dict.fromkeys([*cleaned, *kept])}
        yield from self._notify_of_delay()
        call_id = f"call_{sum(message.call is not None for message in messages) + 1}"
        if options.must_call and (calls := _list_calls(options, options.calls, call_id)):
            candidates = self._encode_candidates(calls)
        elif options.may_call or not options.answers:
            with closing(self._start(prompt, sampling, self._stops, cache)) as run:
                chosen = yield from self._write(run, options, candidates, call_id)
                if chosen is None:
                    yield run.summarize()
                    return
            candidates = chosen
        number, done = self._choose(prompt, candidates, cache)
        reply = candidates.replies[number]
        yield from [reply] if isinstance(reply, ToolCall) else map(TextPiece, reply.splitlines(keepends=True))
        yield done

    def continue_text(self, text: str, sampling: Sampling) -> Iterator[Event]:
        """Continue a plain text, as in pretraining. Only the end of a long text is used."""
        n_room = self.info.seq_len - self._count_reserved(sampling) - 1
        ids = self._tokenizer.encode(self._clean_text(text))
        if len(ids) > n_room:
            yield Notice(f"too long for the window of {self.info.seq_len} tokens; its beginning is left out")
        prompt = [self._tokenizer.get_special_id("bos"), *ids[max(len(ids) - n_room, 0) :]]
        yield from self._notify_of_delay()
        with closing(self._start(prompt, sampling, self._stops | {self._call}, ConversationCache())) as run:
            yield from self._decode(run)
            yield run.summarize()

    @property
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """The control tokens that end a turn: all but <|call|>, with which one begins."""
        return self._stops

    def with_prefixes(self, new_prefix: NewPrefix) -> ModelEngine:
        """Return an engine of the same model whose conversations use these caches instead."""
        other = copy(self)
        other._new_prefix = Future[NewPrefix]()
        other._new_prefix.set_result(new_prefix)
        return other

    def make_batcher(self, n_slots: int, n_threads: int) -> Batcher:
        """Return a batcher with these weights; on a CPU with the compiled kernel. Waits until it is compiled."""
        new_prefix = self._new_prefix.result()
        if isinstance(decoder := getattr(new_prefix, "__self__", None), Decoder):
            return Batcher(decoder.make_slots(n_slots, n_threads), n_slots)
        from model.inference.generate import TorchEngine

        assert isinstance(new_prefix, partial)
        return Batcher(TorchEngine(new_prefix.args[0], n_slots), n_slots)

    def _claim(self, cache: ConversationCache) -> ConversationCache:
        """Clear the cache if another engine filled it."""
        if cache.engine is not self:
            cache.engine, cache.turns, cache.prefix, cache.n_left_out = self, {}, None, 0
        return cache

    def _make_encoder(self, cache: ConversationCache) -> EncodeTurn:
        def encode(message: Message) -> list[int]:
            if message not in cache.turns:
                cache.turns[message] = encode_turn(message, self._tokenizer)
            return cache.turns[message]

        return encode

    def _notify_of_cuts(
        self, messages: Sequence[Message], cleaned: Sequence[Message], kept: Sequence[Message], cache: ConversationCache
    ) -> Iterator[Notice]:
        """Yield at most one notice. Dropped messages are reported once per overflow, not with each answer."""
        window = f"the window of {self.info.seq_len} tokens"
        n_left_out, known = len(messages) - len(kept), set(cleaned)
        is_told, cache.n_left_out = n_left_out <= cache.n_left_out, n_left_out
        if not is_told:
            n_users = [sum(message.role == "user" for message in some) for some in (messages, kept)]
            what = "the oldest messages" if n_users[0] > n_users[1] else "passages of earlier answers"
            yield Notice(f"{window} is full; {what} of this conversation are left out")
        elif _count_chars(cleaned) < _count_chars(messages) or any(message not in known for message in kept):
            yield Notice(f"too long for {window}; the middle of a message is left out")

    def _notify_of_delay(self) -> Iterator[Notice]:
        if wait([self._new_prefix], PATIENCE_SECONDS).not_done:
            yield Notice("compiling a kernel, once on this machine; this takes some seconds")

    def _start(self, prompt: list[int], sampling: Sampling, stops: frozenset[int], cache: ConversationCache) -> _Run:
        new_prefix = self._new_prefix.result()
        if cache.prefix is None:
            cache.prefix = new_prefix()
        n_room = self.info.seq_len - len(prompt)
        return _Run(cache.prefix, prompt, sampling, stops, self._tokenizer.vocab_size, n_room)

    def _write(
        self, run: _Run, options: ReplyOptions, answers: _Candidates, call_id: str
    ) -> Generator[Event, None, _Candidates | None]:
        """Yield the reply that the model writes. Return candidates instead where the model decides only which kind it is: the
        given answers, the calls of a tool, or a refusal and what it is weighed against."""
        first = next(run, -1)
        if first == self._call:
            ids, calls = self._read_call(first, run, options, call_id)
            if calls:
                return self._encode_candidates(calls)
            yield self._parse_call([*ids, *run], call_id)
        elif answers.replies:
            return answers
        elif first >= 0 and (refusal := (yield from self._decode_unless_refusal(chain([first], run), options))):
            return self._list_instead(refusal, options, call_id)
        return None

    def _read_call(
        self, first: int, run: Iterator[int], options: ReplyOptions, call_id: str
    ) -> tuple[list[int], list[ToolCall]]:
        """Read a call up to its parenthesis. Return its ids, and the candidate calls if the argument is to be chosen: those of the
        tool, or of all tools if there is none of this name."""
        ids, name = [first], ""
        for index in run:
            ids.append(index)
            name, mark, _ = self._tokenizer.decode(ids).partition("(")
            if mark:
                break
        name, is_cut = name.strip(), "(" not in self._tokenizer.decode(ids)
        named = [tool for tool in options.calls if tool == name or (is_cut and tool.startswith(name))]
        chosen = named or list(options.calls)
        return ids, _list_calls(options, chosen, call_id)

    def _decode_unless_refusal(self, ids: Iterable[int], options: ReplyOptions) -> Generator[TextPiece, None, str]:
        """Yield the pieces of a text; of a refusal, none: return it, if there are answers that it has to be weighed against."""
        held = ""
        for piece in self._tokenizer.stream(ids):
            held += piece
            if not options.instead_of_refusal or not _may_refuse(held):
                yield TextPiece(held)
                held = ""
                options = replace(options, instead_of_refusal=())  # it is no refusal
        if held.startswith(REFUSAL_OPENING):
            return held
        if held:
            yield TextPiece(held)
        return ""

    def _list_instead(self, refusal: str, options: ReplyOptions, call_id: str) -> _Candidates:
        """Return a refusal with what it must be more probable than by a margin: honest answers and every candidate call."""
        replies = [refusal, *options.instead_of_refusal, *_list_calls(options, options.calls, call_id)]
        return self._encode_candidates(replies, [-MIN_REFUSAL_NATS, *[0.0] * (len(replies) - 1)])

    def _encode_candidates(self, replies: Sequence[str | ToolCall], bonuses: Sequence[float] = ()) -> _Candidates:
        ids = [self._encode_call(each) if isinstance(each, ToolCall) else self._encode_answer(each) for each in replies]
        return _Candidates(replies, ids, bonuses)

    def _encode_call(self, call: ToolCall) -> list[int]:
        """Return the ids of a whole reply that calls a tool."""
        return encode_turn(Message.calling(replace(call, arguments=self._clean_arguments(call))), self._tokenizer)[1:]

    def _encode_answer(self, text: str) -> list[int]:
        """Return the ids of a whole reply of text."""
        return encode_turn(Message.of("assistant", text), self._tokenizer)[1:]

    def _choose(self, prompt: list[int], candidates: _Candidates, cache: ConversationCache) -> tuple[int, Done]:
        """Return the number of the most probable candidate, and the metrics of the choice; one alone needs no model."""
        if len(candidates.ids) == 1:
            return 0, Done(len(prompt), len(candidates.ids[0]), 0.0, 0.0, "end")
        new_prefix = self._new_prefix.result()
        if cache.prefix is None:
            cache.prefix = new_prefix()
        started = time.perf_counter()
        choice = choose(cache.prefix, prompt, candidates.ids, candidates.bonuses)
        seconds, n_tokens = time.perf_counter() - started, len(candidates.ids[choice.index])
        return choice.index, Done(len(prompt), n_tokens, seconds, seconds, "end", cache.prefix.n_reused)

    def _parse_call(self, ids: list[int], call_id: str) -> ToolCall | TextPiece:
        message = parse_reply(ids, self._tokenizer, call_id)
        return message.call or TextPiece(message.text)

    def _decode(self, ids: Iterable[int]) -> Iterator[TextPiece]:
        return map(TextPiece, self._tokenizer.stream(ids))

    def _count_reserved(self, sampling: Sampling, candidates: Sequence[list[int]] = ()) -> int:
        """Return how many tokens of the window are for the answer: room for every candidate, but at most half of the window."""
        n_free = max(min(sampling.max_tokens, int(self.info.seq_len * RESERVED_FRAC)), 1)
        return max(n_free, min(max(map(len, candidates), default=0), self.info.seq_len // 2))

    def _clean(self, message: Message) -> Message:
        if message.call is not None:
            return replace(message, call=replace(message.call, arguments=self._clean_arguments(message.call)))
        text = self._clean_text(message.text)
        return replace(message, parts=(Part(text),) if text else ())

    def _clean_arguments(self, call: ToolCall) -> dict[str, str]:
        return {next(iter(call.arguments)): self._clean_text(call.argument)}

    def _clean_text(self, text: str) -> str:
        """Return the text without lone surrogates, and short enough to be tokenized quickly."""
        half = self.info.seq_len * MAX_CHARS_PER_TOKEN // 2
        if len(text) > 2 * half:
            text = f"{text[:half]}…{text[-half:]}"
        return text.encode("utf-8", "replace").decode()


def _list_calls(options: ReplyOptions, tools: Iterable[str], call_id: str) -> list[ToolCall]:
    return [ToolCall.of(tool, argument, call_id) for tool in tools for argument in options.calls[tool]]


def _may_refuse(text: str) -> bool:
    """Return whether a text that may go on is a refusal, or can become one."""
    return REFUSAL_OPENING.startswith(text) or text.startswith(REFUSAL_OPENING)


def find_device() -> str:
    """Return cuda if there is a GPU, else cpu. Imports torch only where the system has a driver for one: that import takes a
    second and 180 MB."""
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # of NVIDIA, AMD and of Windows' subsystem for Linux
    if sys.platform == "linux" and not any(map(os.path.exists, drivers)):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _load_onto(device: str, folder: Path) -> tuple[Transformer, Tokenizer, dict[str, Any]]:
    from model.network.folder import load_model  # here: a CPU needs no torch

    return load_model(folder, device=device)


def _prepare(model: Transformer | ModelArrays, weights: str, base: Future[NewPrefix] | None) -> NewPrefix:
    """Return a function that creates KV caches. On a CPU, compile the kernel, whose copy of the weights replaces the model's."""
    if not isinstance(model, ModelArrays) and model.embedding.weight.device.type != "cpu":
        from model.inference.generate import TorchPrefix

        return partial(TorchPrefix, model)
    decoder = Decoder(model, n_slots=0, weights=weights)
    if base is not None and isinstance(shared := getattr(base.result(), "__self__", None), Decoder):
        decoder.share_tables(shared)
    return decoder.new_prefix


def _count_chars(messages: Sequence[Message]) -> int:
    return sum(len(message.text) for message in messages)


class _Run:
    """The ids of one answer, counted and timed. Ids that the tokenizer does not have (padding rows of the embedding) are
    skipped."""

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
        """Stop, so that the next answer of the conversation can start."""
        self._ids.close()

    def summarize(self) -> Done:
        """Return the metrics of this generation."""
        reason = "end"
        if self._n_tokens == min(self._max_tokens, self._n_room):
            reason = "length" if self._max_tokens <= self._n_room else "window"
        seconds = self._last_at - self._started_at
        first = self._first_at - self._started_at
        return Done(self._n_prompt, self._n_tokens, seconds, first, reason, self._prefix.n_reused)

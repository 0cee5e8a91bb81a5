"""Constrain decoding: a JSON schema, any JSON object, a regular expression, or calls of offered tools.

In: a specification, compiled before a request is admitted (`ConstraintCompiler.compile`: about 2 ms, then cached); then, for each
token of an answer, the logits. Out: the logits with every token at -inf that can't continue a valid answer; <|end|> is possible
only where the answer is complete. So each answer that ends by itself is valid, whatever the model. One that `max_tokens` cuts
is not complete, which `is_complete` tells.
Memory: `n_cached` grammars of some 100 kB each. Time: 0.02 to 0.04 ms per token for a vocabulary of 4,096, in Rust without the GIL.

Covers: schemas and expressions that are too large, too slow or contradictory are refused while they are compiled, since a few
tokens are tried there; keywords that the grammar can't express are refused by name and path, never ignored.
Does not cover: unique keys among `additionalProperties`; what the values say.
Library: llguidance (Earley parser over derivatives of regular expressions).
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from time import thread_time

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper
from numpy.typing import NDArray

from model.constraints.check_schema import ConstraintError
from model.constraints.constraint_spec import ConstraintSpec
from model.constraints.grammars import make_grammars
from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer

N_CACHED = 128
N_TRIED_TOKENS = 24  # of every new grammar, so that what would fail or stall while others wait fails here
MAX_STEP_SECONDS = 0.1  # of processor time for one token: 2,500 times the usual
# llguidance's own limits are for schemas of megabytes on large machines: 500 MB of lexer states, seconds for a step.
INITIAL_FUEL = 500_000  # 10 ms
STEP_FUEL = 100_000  # 7 ms
STEP_ITEMS = 10_000
MAX_STATES = 20_000  # 40 MB
MAX_GRAMMAR = 100_000  # symbols


class StuckConstraintError(RuntimeError):
    """A constraint that can't go on, as one whose next step takes too long: the answer ends with an error, never unconstrained."""


class ConstraintCompiler:
    """Compiles specifications for one tokenizer. Thread-safe. `vocab_size` is the model's: its padding rows are never chosen."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, n_cached: int = N_CACHED) -> None:
        self._tokenizer = LLTokenizer(TokenizerWrapper(_Vocabulary(tokenizer)))
        self._sizes, self._end = (tokenizer.vocab_size, vocab_size), tokenizer.get_special_id("end")
        self._call = tokenizer.get_special_id("call")
        self._cache: OrderedDict[str, LLMatcher] = OrderedDict()
        self._n_cached, self._lock = n_cached, threading.Lock()

    def __len__(self) -> int:
        """Return how many grammars are cached."""
        return len(self._cache)

    def compile(self, spec: ConstraintSpec) -> CompiledConstraint:
        """Return what starts any number of answers. Raises: ConstraintError, which names the keyword and its path."""
        key = make_key(spec)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return CompiledConstraint(self._cache[key], self._sizes, self._end)
        matcher = self._make_matcher(spec)
        with self._lock:
            self._cache[key] = matcher
            while len(self._cache) > self._n_cached:
                self._cache.popitem(last=False)
        return CompiledConstraint(matcher, self._sizes, self._end)

    def _make_matcher(self, spec: ConstraintSpec) -> LLMatcher:
        """Compile the first grammar that works; the others, less tight ones, are tried where bounds contradict the schema."""
        reason = ""
        for grammar in make_grammars(spec, self._call, self._find_error):
            try:
                return self._try(grammar)
            except StuckConstraintError as error:
                reason = reason or " ".join(str(error).split())[:80]
        name = {"regex": "regex", "tools": "tools"}.get(spec.kind, "schema")
        raise ConstraintError(f"{name} can't be enforced; found that {reason}; simplify it.", name)

    def _find_error(self, grammar: str) -> str:
        """Return the message of a grammar that can't be compiled, empty for a good one."""
        return self._start(grammar).get_error()

    def _start(self, grammar: str) -> LLMatcher:
        limits = LLParserLimits(
            initial_lexer_fuel=INITIAL_FUEL,
            step_lexer_fuel=STEP_FUEL,
            step_max_items=STEP_ITEMS,
            max_lexer_states=MAX_STATES,
            max_grammar_size=MAX_GRAMMAR,
            verbose_errors=False,
        )
        return LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)

    def _try(self, grammar: str) -> LLMatcher:
        """Compile a grammar and generate a few tokens by it. Raises: StuckConstraintError if it fails, or takes too long."""
        matcher = self._start(grammar)
        if matcher.is_error():
            raise StuckConstraintError(matcher.get_error())
        trial, generator = CompiledConstraint(matcher, self._sizes, self._end).start(), np.random.default_rng(0)
        for _ in range(N_TRIED_TOKENS):
            logits = generator.random(self._sizes[1], dtype=np.float32)
            trial.mask(logits)
            if trial.is_complete or (index := int(logits.argmax())) == self._end:
                break
            trial.accept(index)
        return matcher


class CompiledConstraint:
    """A compiled specification, shared by the answers that it constrains."""

    def __init__(self, matcher: LLMatcher, sizes: tuple[int, int], end: int) -> None:
        """`sizes`: of the tokenizer's vocabulary, and of the model's, whose last rows may be padding."""
        self._matcher, self._sizes, self._end = matcher, sizes, end

    def start(self) -> TokenConstraint:
        """Return the constraint of one answer."""
        return TokenConstraint(self._matcher.deep_copy(), self._sizes, self._end)


class TokenConstraint:
    """The constraint of one answer: `mask` the logits, choose a token, `accept` it, and so on until <|end|> is chosen or the
    constraint `is_complete`. One thread at a time."""

    def __init__(self, matcher: LLMatcher, sizes: tuple[int, int], end: int) -> None:
        self._matcher, self._end, self._n_known = matcher, end, sizes[0]
        self._bits = np.zeros((sizes[0] + 31) // 32, dtype=np.int32)
        self._allowed = np.zeros(sizes[1], dtype=np.bool_)

    @property
    def is_accepting(self) -> bool:
        """Whether what was accepted so far is a whole, valid answer; it may go on."""
        return self._matcher.is_accepting()

    @property
    def is_complete(self) -> bool:
        """Whether it is a whole, valid answer, and nothing but <|end|> can follow."""
        return self._matcher.is_accepting() and self._matcher.is_stopped()

    def mask(self, logits: NDArray[np.float32]) -> None:
        """Set the logits (one row) of all tokens that can't follow to -inf, in place. Raises: StuckConstraintError."""
        logits[~self.list_allowed()] = -np.inf

    def list_allowed(self) -> NDArray[np.bool_]:
        """Return for each token whether it can follow; one at least does. Raises: StuckConstraintError."""
        started = thread_time()
        bits = self._bits
        if self._matcher.is_stopped():
            bits[:] = 0
        else:
            self._matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        self._check(started)
        allowed, n_known = self._allowed, self._n_known
        allowed[:n_known] = np.unpackbits(bits.view(np.uint8), count=n_known, bitorder="little").view(np.bool_)
        allowed[self._end] = self.is_accepting
        if not allowed.any():
            raise StuckConstraintError("nothing can follow, and the answer is not complete")
        return allowed

    def accept(self, index: int) -> None:
        """Advance by a chosen token; <|end|> is none. Raises: StuckConstraintError for one that can't follow."""
        started = thread_time()
        if not self._matcher.consume_token(index):
            raise StuckConstraintError(self._matcher.get_error() or f"token {index} can't follow")
        self._check(started)

    def _check(self, started: float) -> None:
        if self._matcher.is_error():
            raise StuckConstraintError(self._matcher.get_error())
        if (seconds := thread_time() - started) > MAX_STEP_SECONDS:
            raise StuckConstraintError(f"one token took {seconds:.2f} s of processor time")


class _Vocabulary:
    """What llguidance needs of a tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = tokenizer.get_special_id("end")
        self.bos_token_id = tokenizer.get_special_id("bos")
        self.tokens = [tokenizer.decode_bytes([index], skip_special=False) for index in range(tokenizer.vocab_size)]
        self.special_token_ids = list(range(len(SPECIAL_TOKENS)))

    def __call__(self, text: bytes | str) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))


def make_key(spec: ConstraintSpec) -> str:
    """Return what two equal specifications have in common. The order of keys counts: it is the order of the properties."""
    tools = [[tool.name, tool.parameters] for tool in spec.tools]
    return json.dumps([spec.kind, spec.schema, spec.regex, tools, spec.must_call], ensure_ascii=True)

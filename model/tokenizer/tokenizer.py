"""The tokenizer: load, encode, decode, special tokens; and training of byte-level BPE (other kinds: model.tokenizer.kinds).

In: text or ids. Out: ids or text; decode(encode(x)) == x for every text. Input is always ordinary text: the characters of a
special token never give its id, so nobody can forge a turn. That follows from two facts: the encoder does not look for special
tokens in text, and no split pattern allows `<|`, letters and `|>` in one piece, so no merge can form one.

Paper: byte pair encoding (Sennrich et al. 2016), over bytes (Radford et al. 2019).
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

SPECIAL_TOKENS: tuple[str, ...] = (
    "<|pad|>",
    "<|bos|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<|call|>",
    *(f"<|spare_{number}|>" for number in range(8)),
)

# How text is split before merging. gpt2 keeps numbers whole, cl100k splits them into one to three digits, qwen2 into single digits.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
SPLIT_PATTERNS: dict[str, str | None] = {
    "gpt2": None,  # built into the byte-level make_splitter
    "cl100k": _WORDS + r"\p{N}{1,3}" + _REST,
    "qwen2": _WORDS + r"\p{N}" + _REST,
}
# A longer word (a genome, base64, a ruled line) is cut into words of this length in training only, since the trainer takes the
# square of the longest word: 200 kB without a space took 31 seconds. Encoding does not cut it: that takes linear time.
MAX_TRAINED_CHARS = 1000
# Oniguruma gives up on `\s*[\r\n]+` after it has backtracked over ten million characters without a line break.
MAX_BLANK_CHARS = 5_000_000
_BLANK = r"\t\v\f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # `\s` without line breaks
_NEWLINES = r"\s*[\r\n]+"  # of the patterns for which a run of white space ends at its last line break


def _map_characters_to_bytes() -> dict[str, int]:
    """Return the byte-level alphabet: printable Latin-1 bytes represent themselves, the others are U+0100 and up, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


class Tokenizer:
    """A tokenizer from `text`, the content of tokenizer.json, which is kept unchanged so that saving writes the same bytes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokenizer = tokenizers.Tokenizer.from_str(text)
        self._tokenizer.encode_special_tokens = True  # encode their characters as ordinary text
        self._special = {name: index for index, name in enumerate(SPECIAL_TOKENS)}
        for name, index in self._special.items():
            if self._tokenizer.token_to_id(name) != index:
                raise ValueError(
                    f"the tokenizer must have {name} at id {index}; found id {self._tokenizer.token_to_id(name)}; "
                    "train it with model.tokenizer.tokenizer.train_bpe."
                )
        vocabulary = self._tokenizer.get_vocab()
        self.vocab_size = max(vocabulary.values()) + 1
        description = json.loads(text)["model"]
        inner, is_char = description.get("continuing_subword_prefix") or "", bool(description.get("byte_fallback"))
        byte_of = _map_characters_to_bytes()
        self._bytes = [b""] * self.vocab_size
        for token, index in vocabulary.items():
            if index < len(SPECIAL_TOKENS):
                self._bytes[index] = token.encode()
            elif is_char:
                self._bytes[index] = bytes([int(token[3:5], 16)]) if len(token) > 1 else token.encode()
            else:
                self._bytes[index] = bytes(byte_of[character] for character in token.removeprefix(inner))

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Load a tokenizer.json, or the one in a folder. Raises: ValueError if there is none."""
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise ValueError(
                f"there is no tokenizer; not found: {file}; train one, or name a folder with tokenizer.json."
            )
        with file.open(encoding="utf-8", newline="") as stream:
            return cls(stream.read())

    def save(self, path: Path) -> None:
        """Write tokenizer.json to a file or into a folder."""
        file = path / "tokenizer.json" if path.is_dir() else path
        file.write_text(self._text, encoding="utf-8", newline="")

    @property
    def text(self) -> str:
        """The content of tokenizer.json."""
        return self._text

    @property
    def sha256(self) -> str:
        """The sha256 of the bytes of tokenizer.json."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    def get_special_id(self, name: str) -> int:
        """Return the id of a special token, named with or without its brackets: `user` or `<|user|>`."""
        name = name if name.startswith("<|") else f"<|{name}|>"
        if name not in self._special:
            raise ValueError(f"there is no special token {name}; use one of {' '.join(SPECIAL_TOKENS)}.")
        return self._special[name]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        is_long = len(text) > MAX_BLANK_CHARS and self._words is not self._tokenizer
        parts = cut_long_blanks(text) if is_long else [text]
        ids: list[int] = []
        for number, part in enumerate(parts):  # every second one is a long run of white space
            encoder = self._words if number % 2 else self._tokenizer
            ids += encoder.encode(part, add_special_tokens=False).ids
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, computed on all cores."""
        if max(map(len, texts), default=0) > MAX_BLANK_CHARS:
            return [self.encode(text) for text in texts]
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    @cached_property
    def _words(self) -> tokenizers.Tokenizer:
        """The tokenizer for words that are split already, or the tokenizer itself if no word is too long for its pattern."""
        description = json.loads(self._text)
        steps = (description["pre_tokenizer"] or {}).get("pretokenizers", [])
        kept = [step for step in steps if _NEWLINES not in step.get("pattern", {}).get("Regex", "")]
        if len(kept) == len(steps):
            return self._tokenizer
        description["pre_tokenizer"]["pretokenizers"] = kept
        return tokenizers.Tokenizer.from_str(json.dumps(description))

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = True) -> bytes:
        """Return the bytes of the ids."""
        first = len(SPECIAL_TOKENS) if skip_special else 0
        return b"".join(self._bytes[index] for index in ids if index >= first)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Return the text of the ids. Invalid UTF-8 (an incomplete character) becomes U+FFFD."""
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", errors="replace")

    def stream(self, ids: Iterable[int], *, skip_special: bool = True) -> Iterator[str]:
        """Yield text as soon as it is complete: bytes of an unfinished character are held back. Joined, it equals `decode`."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for index in ids:
            text = decoder.decode(self.decode_bytes([index], skip_special=skip_special))
            if text:
                yield text
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest


def cut_long_blanks(text: str, max_chars: int = MAX_BLANK_CHARS) -> list[str]:
    """Cut a text around runs of white space with more than `max_chars` characters after their last line break: text, run, text …
    A run is one word of its own, except for its last character, which belongs to the word after it."""
    parts, at = [], 0
    for match in re.finditer(rf"(?<![{_BLANK}])[{_BLANK}]{{{max_chars + 1},}}+(?![\r\n])", text):
        end = match.end() if match.end() == len(text) else match.end() - 1
        parts += [text[at : match.start()], text[match.start() : end]]
        at = end
    return [*parts, text[at:]]


def train_bpe(texts: Iterable[str], vocab_size: int, pattern: str = "cl100k") -> Tokenizer:
    """Train byte-level BPE. `vocab_size` includes special tokens and the 256 bytes; a small corpus may give fewer tokens."""
    minimum = len(SPECIAL_TOKENS) + 256
    if vocab_size < minimum:
        raise ValueError(f"train_tokenizer.vocab_size must be at least {minimum}; found {vocab_size}; raise it.")
    splitter = make_splitter(pattern)
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = make_splitter(pattern, MAX_TRAINED_CHARS)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.pre_tokenizer = splitter
    return Tokenizer(tokenizer.to_str(pretty=True))


def make_splitter(pattern: str, max_chars: int | None = None) -> pre_tokenizers.PreTokenizer:
    """Return the pre-tokenizer that splits text into byte-level words. With `max_chars`, runs of letters, digits, punctuation or
    white space in a word have at most that many characters. Raises: ValueError for an unknown pattern."""
    if pattern not in SPLIT_PATTERNS:
        raise ValueError(
            f"train_tokenizer.pattern is unknown; found {pattern!r}; use one of {', '.join(SPLIT_PATTERNS)}."
        )
    expression = SPLIT_PATTERNS[pattern]
    if max_chars is not None:
        expression = (expression or _GPT2).replace("+", f"{{1,{max_chars}}}").replace("*", f"{{0,{max_chars}}}")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression is None)
    if expression is None:
        return to_bytes
    split = pre_tokenizers.Split(tokenizers.Regex(expression), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, to_bytes])

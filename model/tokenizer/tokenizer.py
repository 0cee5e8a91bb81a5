"""A tokenizer: load, encode, decode, special tokens; and byte-level BPE trained (other kinds: model.tokenizer.train).

In: text or ids. Out: ids or text; decode(encode(x)) == x for every text. Outside text is always ordinary text: typing a special
token's characters never gives its id, so nobody can forge a turn. That rests on two facts: the encoder does not look for
special tokens in text, and no split pattern lets a piece hold `<|`, letters and `|>` together, so no merge can spell one.

Paper: byte pair encoding (Sennrich et al. 2016), over bytes (Radford et al. 2019).
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
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

# How text is cut before merging. gpt2 lets numbers be any length; cl100k cuts them into ones to threes, qwen2 into ones.
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPLIT_PATTERNS: dict[str, str | None] = {
    "gpt2": None,  # built into the byte-level make_splitter
    "cl100k": _WORDS + r"\p{N}{1,3}" + _REST,
    "qwen2": _WORDS + r"\p{N}" + _REST,
}


def _byte_of_character() -> dict[str, int]:
    """The byte-level alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 and on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


class Tokenizer:
    """`text` is the content of tokenizer.json, kept as it is, so that saving gives back the same bytes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokenizer = tokenizers.Tokenizer.from_str(text)
        self._tokenizer.encode_special_tokens = True  # = encode their characters as ordinary text
        self._special = {name: index for index, name in enumerate(SPECIAL_TOKENS)}
        for name, index in self._special.items():
            if self._tokenizer.token_to_id(name) != index:
                raise ValueError(
                    f"the tokenizer must hold {name} at id {index}; found {self._tokenizer.token_to_id(name)}; "
                    "train it with model.tokenizer.tokenizer.train_bpe."
                )
        vocabulary = self._tokenizer.get_vocab()
        self.vocab_size = max(vocabulary.values()) + 1
        described = json.loads(text)["model"]
        inner, is_char = described.get("continuing_subword_prefix") or "", bool(described.get("byte_fallback"))
        byte_of = _byte_of_character()
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
        """`path` is a tokenizer.json or the folder that holds it."""
        file = path / "tokenizer.json" if path.is_dir() else path
        if not file.is_file():
            raise ValueError(
                f"there is no tokenizer; not found: {file}; train one, or name the folder that holds tokenizer.json."
            )
        with file.open(encoding="utf-8", newline="") as stream:
            return cls(stream.read())

    def save(self, path: Path) -> None:
        file = path / "tokenizer.json" if path.is_dir() else path
        file.write_text(self._text, encoding="utf-8", newline="")

    @property
    def text(self) -> str:
        """The content of tokenizer.json."""
        return self._text

    @property
    def sha256(self) -> str:
        """Of the bytes of tokenizer.json."""
        return hashlib.sha256(self._text.encode()).hexdigest()

    def get_special_id(self, name: str) -> int:
        """The id of a special token, named with or without its brackets: `user` or `<|user|>`."""
        name = name if name.startswith("<|") else f"<|{name}|>"
        if name not in self._special:
            raise ValueError(f"no such special token; found {name}; known are {' '.join(SPECIAL_TOKENS)}.")
        return self._special[name]

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The same ids as one by one, on all cores."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode_bytes(self, ids: Iterable[int], *, skip_special: bool = True) -> bytes:
        first = len(SPECIAL_TOKENS) if skip_special else 0
        return b"".join(self._bytes[index] for index in ids if index >= first)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Bytes that are no UTF-8 (a character cut in half) become U+FFFD."""
        return self.decode_bytes(ids, skip_special=skip_special).decode("utf-8", errors="replace")

    def stream(self, ids: Iterable[int], *, skip_special: bool = True) -> Iterator[str]:
        """Text as soon as it is certain: the bytes of an unfinished character are held back. Joined, it equals `decode`."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for index in ids:
            text = decoder.decode(self.decode_bytes([index], skip_special=skip_special))
            if text:
                yield text
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest


def train_bpe(texts: Iterable[str], vocab_size: int, pattern: str = "cl100k") -> Tokenizer:
    """`vocab_size` counts special tokens and the 256 bytes; a small corpus may give fewer."""
    least = len(SPECIAL_TOKENS) + 256
    if vocab_size < least:
        raise ValueError(f"train_tokenizer.vocab_size must be at least {least}; found {vocab_size}; raise it.")
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = make_splitter(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Tokenizer(tokenizer.to_str(pretty=True))


def make_splitter(pattern: str) -> pre_tokenizers.PreTokenizer:
    """Text → words in the byte-level alphabet. Raises: ValueError for an unknown pattern."""
    if pattern not in SPLIT_PATTERNS:
        raise ValueError(
            f"train_tokenizer.pattern is unknown; found {pattern!r}; choose one of {', '.join(SPLIT_PATTERNS)}."
        )
    expression = SPLIT_PATTERNS[pattern]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression is None)
    if expression is None:
        return to_bytes
    split = pre_tokenizers.Split(tokenizers.Regex(expression), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, to_bytes])

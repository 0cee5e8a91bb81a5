"""Train a tokenizer of one of three kinds: byte-pair encoding, word pieces, or single characters.

Every kind satisfies decode(encode(x)) == x for any text: what has no token of its own is encoded as bytes. Special tokens have the
first ids. Memory: the counts of distinct words (bpe, wordpiece) or characters. The same texts give the same tokenizer.

Papers: byte pair encoding (Sennrich et al. 2016); WordPiece (Schuster & Nakajima 2012; longest match as in Devlin et al. 2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from model.tokenizer.tokenizer import MAX_TRAINED_CHARS, SPECIAL_TOKENS, Tokenizer, make_splitter, train_bpe

KINDS = ("bpe", "wordpiece", "char")
# Prefix of a piece inside a word. WordPiece's usual "##" also occurs in text and could not be distinguished from it.
INNER = "\u2581"
# As in BERT. A longer word is split, because the search takes quadratic time (5,000 characters: 11 seconds).
MAX_WORD_CHARS = 100


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int, pattern: str = "cl100k") -> Tokenizer:
    """Train a tokenizer. `vocab_size` includes all tokens; a small corpus may give fewer. `char` does not use `pattern`.

    Raises: ValueError for an unknown kind or pattern, or a vocabulary too small for the bytes.
    """
    if kind not in KINDS:
        raise ValueError(f"train_tokenizer.kind is unknown; found {kind!r}; use one of {', '.join(KINDS)}.")
    if kind == "bpe":
        return train_bpe(texts, vocab_size, pattern)
    return train_wordpiece(texts, vocab_size, pattern) if kind == "wordpiece" else train_char(texts, vocab_size)


def train_wordpiece(texts: Iterable[str], vocab_size: int, pattern: str = "cl100k") -> Tokenizer:
    """Train WordPiece over the byte-level alphabet: a word is split greedily, from the left, into the longest known pieces."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = [INNER + character for character in alphabet]
    first = [*SPECIAL_TOKENS, *alphabet, *inner]
    _check_vocab_size(vocab_size, len(first))
    tokenizer = _make_wordpiece({})
    words = pre_tokenizers.Split(tokenizers.Regex(rf"[\s\S]{{1,{MAX_WORD_CHARS}}}"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([make_splitter(pattern, MAX_TRAINED_CHARS), words])
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        # With `inner`, which would otherwise get ids in hash-table order, so that ties were broken differently in each run.
        special_tokens=[*SPECIAL_TOKENS, *inner],
        initial_alphabet=alphabet,
        continuing_subword_prefix=INNER,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    names = list(dict.fromkeys([*first, *(token for token, _ in learned)]))[:vocab_size]
    whole = _make_wordpiece({token: index for index, token in enumerate(names)})
    whole.pre_tokenizer = pre_tokenizers.Sequence([make_splitter(pattern), words])
    # INNER is not in the byte-level alphabet, so it can be removed before the bytes are joined.
    whole.decoder = decoders.Sequence([decoders.Replace(INNER, ""), decoders.ByteLevel()])
    return _add_special_tokens(whole)


def train_char(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Give each of the most frequent characters a token; the others are encoded as bytes (`<0xE2>`)."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    first = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))]
    _check_vocab_size(vocab_size, len(first))
    common = sorted(counts, key=lambda character: (-counts[character], character))[: vocab_size - len(first)]
    vocabulary = {token: index for index, token in enumerate([*first, *sorted(common)])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return _add_special_tokens(tokenizer)


def make_probe(pattern: str, neighbors: str) -> Tokenizer:
    """Return byte-level BPE whose ids show where a text is split: each byte merges with each of these ASCII characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    near = [pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(each)[0][0] for each in neighbors]
    merges = list(dict.fromkeys(pair for each in near for byte in alphabet for pair in ((each, byte), (byte, each))))
    names = [*SPECIAL_TOKENS, *alphabet, *map("".join, merges)]
    tokenizer = tokenizers.Tokenizer(models.BPE({name: index for index, name in enumerate(names)}, merges))
    tokenizer.pre_tokenizer = make_splitter(pattern)
    return _add_special_tokens(tokenizer)


def _make_wordpiece(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    model = models.WordPiece(
        vocab=vocabulary,
        unk_token=SPECIAL_TOKENS[0],  # never used: every byte has a piece
        max_input_chars_per_word=MAX_WORD_CHARS,
        continuing_subword_prefix=INNER,
    )
    return tokenizers.Tokenizer(model)


def _add_special_tokens(tokenizer: tokenizers.Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return Tokenizer(tokenizer.to_str(pretty=True))


def _check_vocab_size(vocab_size: int, minimum: int) -> None:
    if vocab_size < minimum:
        raise ValueError(f"train_tokenizer.vocab_size must be at least {minimum}; found {vocab_size}; raise it.")

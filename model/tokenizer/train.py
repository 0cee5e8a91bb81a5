"""Texts → a tokenizer, of three kinds: byte-pair merges, word pieces, or single characters.

Every kind keeps decode(encode(x)) == x for any text: whatever has no token of its own is spelt in bytes. Special tokens take the
first ids in each. Memory: the counts of distinct words (bpe, wordpiece) or characters. The same texts give the same tokenizer.

Papers: byte pair encoding (Sennrich et al. 2016); WordPiece (Schuster & Nakajima 2012; longest match as in Devlin et al. 2019).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer, make_splitter, train_bpe

KINDS = ("bpe", "wordpiece", "char")
# Of a piece inside a word. WordPiece's own "##" is also text, and could not be told from it.
INNER = "\u2581"
# As BERT has it. A longer word is cut, for the search takes the square of its length (5,000 letters: 11 seconds).
MAX_WORD_CHARS = 100


def train_tokenizer(kind: str, texts: Iterable[str], vocab_size: int, pattern: str = "cl100k") -> Tokenizer:
    """`vocab_size` counts everything; a small corpus may give fewer. `pattern` is not used by `char`.

    Raises: ValueError for an unknown kind or pattern, or a vocabulary too small for the bytes.
    """
    if kind not in KINDS:
        raise ValueError(f"train_tokenizer.kind is unknown; found {kind!r}; choose one of {', '.join(KINDS)}.")
    if kind == "bpe":
        return train_bpe(texts, vocab_size, pattern)
    return train_wordpiece(texts, vocab_size, pattern) if kind == "wordpiece" else train_char(texts, vocab_size)


def train_wordpiece(texts: Iterable[str], vocab_size: int, pattern: str = "cl100k") -> Tokenizer:
    """Words of the byte-level alphabet, cut into the longest pieces that there are, from the left."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = [INNER + letter for letter in alphabet]
    first = [*SPECIAL_TOKENS, *alphabet, *inner]
    _check_size(vocab_size, len(first))
    tokenizer = _wordpiece({})
    words = pre_tokenizers.Split(tokenizers.Regex(rf"[\s\S]{{1,{MAX_WORD_CHARS}}}"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([make_splitter(pattern), words])
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[
            *SPECIAL_TOKENS,
            *inner,
        ],  # else they get ids in the order of a hash table, which breaks ties anew each time
        initial_alphabet=alphabet,
        continuing_subword_prefix=INNER,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    learned = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    names = list(dict.fromkeys([*first, *(token for token, _ in learned)]))[:vocab_size]
    whole = _wordpiece({token: index for index, token in enumerate(names)})
    whole.pre_tokenizer = tokenizer.pre_tokenizer
    # No letter of the byte-level alphabet is the mark, so it can go before the bytes are put together.
    whole.decoder = decoders.Sequence([decoders.Replace(INNER, ""), decoders.ByteLevel()])
    return _finished(whole)


def train_char(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A token for each of the commonest characters; the others are spelt in bytes (`<0xE2>`)."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text)
    first = [*SPECIAL_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))]
    _check_size(vocab_size, len(first))
    common = sorted(counts, key=lambda letter: (-counts[letter], letter))[: vocab_size - len(first)]
    vocabulary = {token: index for index, token in enumerate([*first, *sorted(common)])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex(r"[\s\S]"), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return _finished(tokenizer)


def _wordpiece(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    model = models.WordPiece(
        vocab=vocabulary,
        unk_token=SPECIAL_TOKENS[0],  # never given: every byte has a piece
        max_input_chars_per_word=MAX_WORD_CHARS,
        continuing_subword_prefix=INNER,
    )
    return tokenizers.Tokenizer(model)


def _finished(tokenizer: tokenizers.Tokenizer) -> Tokenizer:
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return Tokenizer(tokenizer.to_str(pretty=True))


def _check_size(vocab_size: int, least: int) -> None:
    if vocab_size < least:
        raise ValueError(f"train_tokenizer.vocab_size must be at least {least}; found {vocab_size}; raise it.")

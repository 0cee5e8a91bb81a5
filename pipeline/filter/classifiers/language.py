"""Which language a document is in: prose out of documentation, lines for fastText, probabilities back.

In: a column of texts. Out: the prose of each on one line; then the most likely language and the probability that it is one
of those wanted. fastText (Joulin et al. 2016) works on character n-grams and is trained on the project's own sentences; the
stage does the files. FineWeb (Penedo et al. 2024) keeps English at 0.65 or more.

Code, signatures and doctests are foreign to every language and lower its score, so only prose is judged: lines in which
plain words (letters, inner hyphens and apostrophes) are at least half of all tokens. Doctests with their output and fenced
blocks are left out whole, and emoji. A text in which no line passes is judged by all its plain words; one without any has no
language. Words are looked for before letters are folded: a comma of full width inside a Chinese sentence is no code.

Of a long text the first `max_bytes` of prose are judged. Measured on pages of 12 kB in 38 languages under a banner of 720 bytes of
English: 4,000 bytes are as good as all, with 1,000 most of the foreign ones pass. Time: linear in what is judged and in the code
before it, 60 MB of text a second on one core with the model, five times that where documents are longer than 20 kB.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import random
import string
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, Protocol

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.text.columns import Bytes, Fractions, Offsets, from_utf8, to_utf8
from pipeline.text.normalize import fold, split_words

LABEL = "__label__"
_OPENS, _CLOSES, _INNER, _LETTER, _SPACE, _PICTURE = 1, 2, 4, 8, 16, 32
MIN_LINE_LETTERS = 12  # bytes: two or three words; less is a heading
ANY_SHARE = 1 << 40  # tokens a plain word
MAX_PROSE_BYTES = 4_000
HELDOUT_EVERY = 10
SPAN_WORDS = (1, 6)
MIXED_WORDS = (1, 3)


class LanguageModel(Protocol):
    """What we need of a model: of each line the likeliest label, and the probability of the wanted labels together."""

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]: ...


class Sentence(NamedTuple):
    language: str
    text: str


class Judgment(NamedTuple):
    """For each document the likeliest language and the probability of the wanted ones together."""

    language: pa.StringArray
    score: Fractions


def extract_prose(texts: pa.StringArray, max_bytes: int = MAX_PROSE_BYTES) -> pa.StringArray:
    """The words of each text's prose lines on one line, in lower case, letters of scripts without spaces one by one: what
    our own model reads. Of a longer text about the first `max_bytes` of it: up to the end of a line, at most twice as much."""
    return split_words(fold(extract_plain_prose(texts, max_bytes)))


def extract_plain_prose(texts: pa.StringArray, max_bytes: int = MAX_PROSE_BYTES) -> pa.StringArray:
    """The same words as they are written: what models of others read."""
    lines = from_utf8(*_prose(*to_utf8(texts), _make_byte_flags(), MIN_LINE_LETTERS, 2, max_bytes))
    is_empty = pc.equal(pc.binary_length(lines), 0)
    if pc.any(is_empty).as_py():
        rest = from_utf8(*_prose(*to_utf8(texts.filter(is_empty)), _make_byte_flags(), 1, ANY_SHARE, max_bytes))
        lines = pc.replace_with_mask(lines, is_empty, rest)
    return lines


def split_heldout(sentences: Sequence[Sentence]) -> tuple[list[Sentence], list[Sentence]]:
    """Sentences to learn from, and every tenth of each language to measure with."""
    seen: dict[str, int] = {}
    learn: list[Sentence] = []
    heldout: list[Sentence] = []
    for sentence in sentences:
        seen[sentence.language] = seen.get(sentence.language, 0) + 1
        (heldout if seen[sentence.language] % HELDOUT_EVERY == 0 else learn).append(sentence)
    return learn, heldout


def make_training_lines(
    sentences: Sequence[Sentence], keep: Sequence[str], n_spans: int, n_mixed: int, keep_weight: int, seed: int
) -> list[str]:
    """fastText's input in random order: a label and a sentence a line, cleaned as documents are.

    Each sentence also lends `n_spans` short pieces of itself, or whole sentences would teach that two rare words are certain
    proof. Each foreign one comes `n_mixed` times more with a few words of a wanted language inside, as foreign documentation
    does, and stays foreign. Wanted languages are seen `keep_weight` times as often, with other pieces each time.
    """
    chance = random.Random(seed)
    cleaned: list[str] = extract_prose(pa.array([sentence.text for sentence in sentences], pa.string())).to_pylist()
    lines: list[str] = []
    wanted = [
        word
        for sentence, line in zip(sentences, cleaned, strict=True)
        if sentence.language in keep
        for word in line.split()
    ]
    for sentence, line in zip(sentences, cleaned, strict=True):
        words, label = line.split(), LABEL + sentence.language
        is_wanted = sentence.language in keep
        for _ in range(keep_weight if is_wanted else 1):
            lines.append(f"{label} {line}")
            lines += [f"{label} {' '.join(_draw_piece(words, SPAN_WORDS, chance))}" for _ in range(n_spans)]
        for _ in range(0 if is_wanted else n_mixed):
            piece = _draw_piece(words, (2, max(len(words), 2)), chance)
            at = chance.randint(0, len(piece))
            mixed = [*piece[:at], *_draw_piece(wanted, MIXED_WORDS, chance), *piece[at:]]
            lines.append(f"{label} {' '.join(mixed)}")
    chance.shuffle(lines)
    return lines


def _draw_piece(words: Sequence[str], sizes: tuple[int, int], chance: random.Random) -> Sequence[str]:
    """Some neighbouring words, as many as `sizes` says (from, to)."""
    n = min(chance.randint(*sizes), len(words))
    start = chance.randint(0, len(words) - n)
    return words[start : start + n]


def judge(model: LanguageModel, lines: pa.StringArray, keep: Sequence[str]) -> Judgment:
    """Judges lines that `extract_prose` or `extract_plain_prose` made. A line without words has language "" and score 0."""
    labels, score = model.judge(lines, [LABEL + language for language in keep])
    return Judgment(pc.replace_substring(labels, LABEL, ""), np.clip(score, 0.0, 1.0))


def measure_accuracy(
    found: Judgment, heldout: Sequence[Sentence], keep: Sequence[str], min_score: float
) -> tuple[float, float]:
    """Share of sentences whose language is found, and share of the foreign ones that would pass as wanted."""
    is_right = [guess == sentence.language for guess, sentence in zip(found.language.to_pylist(), heldout, strict=True)]
    is_foreign = np.array([sentence.language not in keep for sentence in heldout], dtype=bool)
    passes = found.score >= min_score
    return float(np.mean(is_right)), float(np.sum(passes & is_foreign) / max(is_foreign.sum(), 1))


@cache
def _make_byte_flags() -> Bytes:
    """What each byte of a token may be, as bits."""
    flags = np.zeros(256, np.uint8)
    for bit, letters in (
        (_OPENS, "\"'(["),
        (_CLOSES, ".,;:!?)]\"'"),
        (_INNER, "-'"),
        (_LETTER, string.ascii_letters),
        (_SPACE, string.whitespace),
    ):
        for letter in letters:
            flags[ord(letter)] |= bit
    flags[128:0xF0] = _LETTER
    flags[0xF0:] = _PICTURE  # four bytes: nearly all of them emoji, which are in no language
    return flags


@numba.njit(nogil=True)
def _add_word(
    data: Bytes, start: int, stop: int, flags: Bytes, out: Bytes, n: int
) -> int:  # pragma: no cover (compiled)
    """Copies the word inside quotes, brackets and punctuation, without emoji, to `out[n:]`; returns its length, 0 for no word."""
    while start < stop and flags[data[start]] & _OPENS:
        start += 1
    while start < stop and flags[data[stop - 1]] & _CLOSES:
        stop -= 1
    i, size = start, 0
    while i < stop:
        byte = data[i]
        mark = flags[byte]
        if mark & _PICTURE:
            i += 4
            continue
        if not (mark & _LETTER or (mark & _INNER and start < i < stop - 1)):
            return 0
        out[n + size] = byte
        size += 1
        i += 1
    return size


@numba.njit(nogil=True)
def _starts_with_three(data: Bytes, start: int, stop: int, byte: int) -> bool:  # pragma: no cover (compiled)
    return stop - start >= 3 and data[start] == byte and data[start + 1] == byte and data[start + 2] == byte


@numba.njit(cache=True, nogil=True)
def _prose(
    data: Bytes, offsets: Offsets, flags: Bytes, min_letters: int, tokens_per_word: int, max_bytes: int
) -> tuple[Bytes, Offsets]:  # pragma: no cover (compiled)
    n_rows = len(offsets) - 1
    out = np.empty(offsets[n_rows] - offsets[0] + n_rows, np.uint8)
    ends = np.zeros(n_rows + 1, np.int64)
    n = 0
    for row in range(n_rows):
        first, is_doctest, is_fenced = n, False, False
        i, stop = offsets[row], offsets[row + 1]
        while i < stop and n - first < max_bytes:  # a line, or as much of it as may be judged
            line, n_tokens, n_words, n_letters = n, 0, 0, 0
            is_prompt, is_fence = False, False
            while i < stop and data[i] != 10 and n - line < max_bytes:  # a token, or a space before it
                start, gap = i, n > first
                while i < stop and flags[data[i]] == _LETTER:  # most tokens are words as they stand
                    out[n + gap + i - start] = data[i]
                    i += 1
                size, is_whole = i - start, i == stop or flags[data[i]] & _SPACE
                while i < stop and not flags[data[i]] & _SPACE:
                    i += 1
                if i == start:
                    i += 1
                    continue
                if n_tokens == 0:
                    is_prompt = _starts_with_three(data, start, i, 62)  # >>>
                    is_fence = _starts_with_three(data, start, i, 96)  # three backticks
                n_tokens += 1
                if not is_whole:
                    size = _add_word(data, start, i, flags, out, n + gap)
                if size:
                    out[n] = 32 if gap else out[n]
                    n += gap + size
                    n_words += 1
                    n_letters += size
            i += 1  # past the end of the line
            is_doctest = (is_doctest or is_prompt) and n_tokens > 0  # up to the blank line: output too
            is_prose = n_letters >= min_letters and n_words * tokens_per_word >= n_tokens
            if is_doctest or is_fenced or is_fence or not is_prose:
                n = line
            is_fenced = is_fenced != is_fence
        ends[row + 1] = n
    return out[:n], ends

"""Identify the language of documents: extract prose, make lines for fastText, interpret its probabilities.

In: a column of texts. Out: the prose of each on one line; then the most probable language and the probability of the wanted ones.
fastText (Joulin et al. 2016) uses character n-grams and is trained on the project's own sentences; language_training.py handles
the files. FineWeb (Penedo et al. 2024) keeps English at 0.65 or more.

Code, signatures and doctests belong to no language and lower the score, so only prose is judged: lines in which plain words
(letters, inner hyphens and apostrophes) are at least half of all tokens. Doctests with their output, fenced blocks and emoji are
excluded. If no line qualifies, all plain words of the text are judged; a text without any has no language. Words are found before
characters are folded: a fullwidth comma inside a Chinese sentence is no code.

Only the first `max_bytes` of prose are judged. Measured on pages of 12 kB in 38 languages under a banner of 720 bytes of English:
4,000 bytes are as accurate as all, with 1,000 most of the foreign pages pass. Time: linear in the judged prose and the code before
it, 60 MB of text per second on one core including the model, five times that for documents longer than 20 kB.
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
MIN_LINE_LETTERS = 12  # in bytes: two or three words; less is a heading
ANY_RATIO = 1 << 40  # tokens per plain word: any line qualifies
MAX_PROSE_BYTES = 4_000
HELDOUT_EVERY = 10
SPAN_WORDS = (1, 3)  # 1 to 6: fewer words and sentences right, and 30 % more time
MIXED_WORDS = (1, 3)


class LanguageModel(Protocol):
    """A model that returns for each line the most probable label and the total probability of the wanted labels."""

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]: ...


class Sentence(NamedTuple):
    """A sentence and the code of its language."""

    language: str
    text: str


class Judgment(NamedTuple):
    """For each document the most probable language, and the total probability of the wanted ones."""

    language: pa.StringArray
    score: Fractions


def extract_prose(texts: pa.StringArray, max_bytes: int = MAX_PROSE_BYTES) -> pa.StringArray:
    """Return the words of each text's prose on one line, as our own model reads them: in lower case, with characters of scripts
    without spaces separated.

    A longer text is cut after about `max_bytes`: at the end of a line, at most at twice as much.
    """
    return split_words(fold(extract_plain_prose(texts, max_bytes)))


def extract_plain_prose(texts: pa.StringArray, max_bytes: int = MAX_PROSE_BYTES) -> pa.StringArray:
    """Return the same words as written, as third-party models read them."""
    lines = from_utf8(*_prose(*to_utf8(texts), _make_byte_flags(), MIN_LINE_LETTERS, 2, max_bytes))
    is_empty = pc.equal(pc.binary_length(lines), 0)
    if pc.any(is_empty).as_py():
        rest = from_utf8(*_prose(*to_utf8(texts.filter(is_empty)), _make_byte_flags(), 1, ANY_RATIO, max_bytes))
        lines = pc.replace_with_mask(lines, is_empty, rest)
    return lines


def split_heldout(sentences: Sequence[Sentence]) -> tuple[list[Sentence], list[Sentence]]:
    """Split into sentences for training, and every tenth of each language for evaluation."""
    seen: dict[str, int] = {}
    training: list[Sentence] = []
    heldout: list[Sentence] = []
    for sentence in sentences:
        seen[sentence.language] = seen.get(sentence.language, 0) + 1
        (heldout if seen[sentence.language] % HELDOUT_EVERY == 0 else training).append(sentence)
    return training, heldout


def make_training_lines(
    sentences: Sequence[Sentence], keep: Sequence[str], n_spans: int, n_mixed: int, keep_weight: int, seed: int
) -> list[str]:
    """Return fastText's input in random order: one label and sentence per line, with the same cleaning as documents.

    Each sentence also contributes `n_spans` short spans; from whole sentences alone the model would learn that two rare words are
    certain proof. Each foreign sentence is repeated `n_mixed` times with a few words of a wanted language inserted, as in foreign
    documentation, and keeps its label. Wanted languages are repeated `keep_weight` times, with new spans each time.
    """
    rng = random.Random(seed)
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
            lines += [f"{label} {' '.join(_draw_piece(words, SPAN_WORDS, rng))}" for _ in range(n_spans)]
        for _ in range(0 if is_wanted else n_mixed):
            piece = _draw_piece(words, (2, max(len(words), 2)), rng)
            at = rng.randint(0, len(piece))
            mixed = [*piece[:at], *_draw_piece(wanted, MIXED_WORDS, rng), *piece[at:]]
            lines.append(f"{label} {' '.join(mixed)}")
    rng.shuffle(lines)
    return lines


def _draw_piece(words: Sequence[str], sizes: tuple[int, int], rng: random.Random) -> Sequence[str]:
    """Return a random span of between `sizes[0]` and `sizes[1]` words."""
    n = min(rng.randint(*sizes), len(words))
    start = rng.randint(0, len(words) - n)
    return words[start : start + n]


def judge(model: LanguageModel, lines: pa.StringArray, keep: Sequence[str]) -> Judgment:
    """Judge lines from `extract_prose` or `extract_plain_prose`. A line without words has language "" and score 0."""
    labels, score = model.judge(lines, [LABEL + language for language in keep])
    return Judgment(pc.replace_substring(labels, LABEL, ""), np.clip(score, 0.0, 1.0))


def measure_accuracy(
    judgment: Judgment, heldout: Sequence[Sentence], keep: Sequence[str], min_score: float
) -> tuple[float, float]:
    """Return (fraction of sentences with the correct language, fraction of foreign sentences that would pass)."""
    is_right = [
        guess == sentence.language for guess, sentence in zip(judgment.language.to_pylist(), heldout, strict=True)
    ]
    is_foreign = np.array([sentence.language not in keep for sentence in heldout], dtype=bool)
    passes = judgment.score >= min_score
    return float(np.mean(is_right)), float(np.sum(passes & is_foreign) / max(is_foreign.sum(), 1))


@cache
def _make_byte_flags() -> Bytes:
    """Return the flags of each byte of a token."""
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
    flags[0xF0:] = _PICTURE  # four bytes: nearly all are emoji, which belong to no language
    return flags


@numba.njit(nogil=True)
def _add_word(
    data: Bytes, start: int, stop: int, flags: Bytes, out: Bytes, n: int
) -> int:  # pragma: no cover (compiled)
    """Copy the word to `out[n:]` without quotes, brackets, punctuation and emoji. Return its length, 0 if it is no plain word.

    A token that is mostly not ASCII is a clause of a script without spaces: digits and signs in it separate words."""
    while start < stop and flags[data[start]] & _OPENS:
        start += 1
    while start < stop and flags[data[stop - 1]] & _CLOSES:
        stop -= 1
    i, size, n_other = start, 0, -1
    while i < stop:
        byte = data[i]
        mark = flags[byte]
        if mark & _PICTURE:
            if byte == 0xF0 and data[i + 1] >= 0xA0:  # Han above the basic plane
                out[n + size : n + size + 4] = data[i : i + 4]
                size += 4
            i += 4
            continue
        if not (mark & _LETTER or (mark & _INNER and start < i < stop - 1)):
            if n_other < 0:
                n_other = 0
                for k in range(start, stop):
                    n_other += data[k] >= 128
            if 2 * n_other <= stop - start:
                return 0
            byte = np.uint8(32)
        i += 1
        if byte != 32 or (size and out[n + size - 1] != 32):
            out[n + size] = byte
            size += 1
    return size - (size > 0 and out[n + size - 1] == 32)


@numba.njit(nogil=True)
def _starts_with_three(data: Bytes, start: int, stop: int, byte: int) -> bool:  # pragma: no cover (compiled)
    """Return whether the token starts with the byte three times."""
    return stop - start >= 3 and data[start] == byte and data[start + 1] == byte and data[start + 2] == byte


@numba.njit(cache=True, nogil=True)
def _prose(
    data: Bytes, offsets: Offsets, flags: Bytes, min_letters: int, tokens_per_word: int, max_bytes: int
) -> tuple[Bytes, Offsets]:  # pragma: no cover (compiled)
    """Return bytes and offsets of the prose of each row, separated by single spaces."""
    n_rows = len(offsets) - 1
    out = np.empty(offsets[n_rows] - offsets[0] + n_rows, np.uint8)
    ends = np.zeros(n_rows + 1, np.int64)
    n = 0
    for row in range(n_rows):
        first, is_doctest, is_fenced = n, False, False
        i, stop = offsets[row], offsets[row + 1]
        while i < stop and n - first < max_bytes:  # one line, or as much of it as is judged
            line, n_tokens, n_words, n_letters = n, 0, 0, 0
            is_prompt, is_fence = False, False
            while i < stop and data[i] != 10 and n - line < max_bytes:  # a token, or the space before it
                start, gap = i, n > first
                while i < stop and flags[data[i]] == _LETTER:  # most tokens are plain words
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
            is_doctest = (is_doctest or is_prompt) and n_tokens > 0  # until a blank line, output included
            is_prose = n_letters >= min_letters and n_words * tokens_per_word >= n_tokens
            if is_doctest or is_fenced or is_fence or not is_prose:
                n = line
            is_fenced = is_fenced != is_fence
        ends[row + 1] = n
    return out[:n], ends

"""Rule out languages that are not written with a text's letters.

In: the lines that the language model learns from; then lines to judge, and the labels. Out: for each line its number of words,
and for each label whether it is possible. A character classifier must choose one of its languages, also for one that it never
saw: Uzbek in Cyrillic looks most like Serbian, though a tenth of its letters are unknown there. So a language is ruled out if more
than one letter, and more than `MAX_MISFIT_FRAC` of them, are not in its alphabet: the letters seen in its training lines, ASCII
letters where it is written in Latin, and all of Han, kana or Hangul where it uses some. Latin is more tolerant: texts in a wrong
encoding read `ý` for `ı`. A language in another script than Latin is also ruled out if less than `MIN_OWN_FRAC` of the letters are
its own; ASCII letters beyond that (terms, names) do not count against it. Accents, vowel points and modifiers are no letters here.

Time: linear, about 1 ns per byte of ASCII and 3 ns per byte of other text. Memory: 128 KiB.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.text.columns import Bytes, Offsets, Rows, to_utf8
from pipeline.text.letters import ABOVE, decode

MAX_MISFIT_FRAC, MAX_LATIN_MISFIT_FRAC = 0.05, 0.12
MIN_LETTERS_FOR_ONE = 10  # so many letters may have a foreign one among them, as in "naïve approach"
MIN_OWN_FRAC = 0.25
# Scripts with so many letters that the training lines show only a part: one letter seen stands for all.
_LARGE = ((0x3005, 0x3006), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xF900, 0xFAFF))
# Letters that are written one for the other: Arabic and Persian yeh and kaf, Romanian and Turkish s and t.
_VARIANTS = str.maketrans("\u064a\u0649\u0643\u015f\u0163", "\u06cc\u06cc\u06a9\u0219\u021b")
_OTHER, _ASCII, _NO_LETTER = 0, 1, 2  # classes of code points; the others are the sets of alphabets that a letter is in
_N_ASCII = 128

Flags = npt.NDArray[np.bool_]


class Alphabets(NamedTuple):
    """The class of each code point (the last one: all above the basic plane), and for each class and label whether it fits."""

    classes: npt.NDArray[np.uint16]
    fits: Flags
    is_latin: Flags


class Fit(NamedTuple):
    """For each line its number of words, 0 if it has no letters, and the possible labels."""

    n_words: Rows
    is_possible: Flags


def is_letter(char: str) -> bool:
    """Return whether the character is a letter of an alphabet, or a vowel sign."""
    category = unicodedata.category(char)
    return category[0] in "LM" and category != "Lm" and unicodedata.combining(char) == 0 and ord(char) < ABOVE


def collect_letters(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the letters of each label, sorted, from pairs of label and line; ASCII letters are one letter, `a`."""
    counts: dict[str, Counter[str]] = {}
    for label, line in lines:
        counts.setdefault(label, Counter()).update(line)
    return {label: _list_letters(counts[label]) for label in sorted(counts)}


def _list_letters(counts: Mapping[str, int]) -> str:
    """Return the letters among the characters, and `a` if most are ASCII."""
    letters = {char: n for char, n in counts.items() if is_letter(char)}
    n_ascii = sum(n for char, n in letters.items() if char.isascii())
    others = {char.translate(_VARIANTS) for char in letters if not char.isascii()}
    return ("a" if 2 * n_ascii > sum(letters.values()) else "") + "".join(sorted(others))


def make_alphabets(letters: Mapping[str, str], labels: Sequence[str]) -> Alphabets:
    """Return the tables of these letters; the columns are in the order of the labels."""
    is_member = np.zeros((ABOVE + 1, len(labels)), np.bool_)
    for column, label in enumerate(labels):
        points = np.array([ord(char) for char in letters.get(label, "")], np.int64)
        is_member[points, column] = True
        for first, last in _LARGE:
            if np.any((points >= first) & (points <= last)):
                is_member[first : last + 1, column] = True
    is_latin = is_member[ord("a")].copy()
    is_member[:_N_ASCII] = False
    sets: dict[bytes, int] = {}
    packed = np.packbits(is_member, axis=1)
    classes = np.array([sets.setdefault(row.tobytes(), 3 + len(sets)) for row in packed], np.uint16)
    rows = np.array([np.frombuffer(row, np.uint8) for row in sets])
    fits = np.unpackbits(rows, axis=1, count=len(labels)).astype(np.bool_)
    classes[:ABOVE][~_flag_letters()] = _NO_LETTER
    for variant, point in _VARIANTS.items():
        classes[variant] = classes[point]
    classes[:_N_ASCII][classes[:_N_ASCII] != _NO_LETTER] = _ASCII
    classes[ABOVE] = _OTHER
    return Alphabets(classes, np.vstack([np.zeros((3, len(labels)), np.bool_), fits]), is_latin)


@cache
def _flag_letters() -> Flags:
    """Return for each code point of the basic plane whether it is a letter."""
    return np.array([is_letter(chr(point)) for point in range(ABOVE)])


def measure_fit(lines: pa.StringArray, alphabets: Alphabets) -> Fit:
    """Return the number of words of each line and its possible labels."""
    return Fit(*_measure_rows(*to_utf8(lines), alphabets.classes, alphabets.fits, alphabets.is_latin))


@numba.njit(cache=True, nogil=True)
def _measure_rows(
    data: Bytes, offsets: Offsets, classes: npt.NDArray[np.uint16], fits: Flags, is_latin: Flags
) -> tuple[Rows, Flags]:  # pragma: no cover (compiled)
    """Return the number of words and the possible labels of each line."""
    n_rows, n_labels = len(offsets) - 1, fits.shape[1]
    words, is_possible = np.zeros(n_rows, np.int64), np.zeros((n_rows, n_labels), np.bool_)
    counts, used = np.zeros(len(fits), np.int64), np.zeros(len(fits), np.int64)
    for row in range(n_rows):
        i, stop, n_used, n_ascii, n_other, n_words = offsets[row], offsets[row + 1], 0, 0, 0, 1
        while i < stop:
            byte = data[i]
            if byte < _N_ASCII:
                n_ascii += 97 <= byte | 32 <= 122
                n_words += byte == 32
                i += 1
                continue
            point, width = decode(data, i)
            i += width
            kind = classes[point]
            if kind == _NO_LETTER:
                continue
            n_other += 1
            if counts[kind] == 0:
                used[n_used] = kind
                n_used += 1
            counts[kind] += 1
        n_letters = n_ascii + n_other
        words[row] = n_words if n_letters else 0
        for label in range(n_labels):
            own = 0
            for k in range(n_used):
                own += counts[used[k]] * fits[used[k], label]
            misfits = n_other - own
            is_own = is_latin[label] or own >= MIN_OWN_FRAC * n_letters
            frac = MAX_LATIN_MISFIT_FRAC if is_latin[label] else MAX_MISFIT_FRAC
            n_allowed = max(frac * n_letters, 1.0) if n_letters >= MIN_LETTERS_FOR_ONE else 0.0
            is_possible[row, label] = is_own and misfits <= n_allowed
        for k in range(n_used):
            counts[used[k]] = 0
    return words, is_possible

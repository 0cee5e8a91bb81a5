"""Split text into the words that retrieval counts: lower-case, stemmed, identifiers whole and in pieces.

In: text as people and documents write it. Out: its words in order; `pd.read_csv` gives `pd.read_csv`, `pd`, `read_csv`, `read` and
`csv`, so that each spelling of a name finds it. Stemming is Snowball's English ("Porter2"; Porter, 1980). The same text gives the
same words everywhere, so an index and the queries to it agree. Memory: the result and one entry per distinct chunk. Time: about
0.1 µs per character of a batch, about 10 µs a query.

Covers: identifiers cut at dots, underscores, case and before digits (`log10`: `log`, `10`), accents (`naïve` = `naive`), digits and
letters of every script, pairs of characters where a script has no spaces (Chinese, Japanese). Does not cover: words of Thai,
stemming of other languages than English, operators (`//`).
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import Stemmer
from numpy.typing import NDArray

MAX_WORD_CHARS = 64  # longer ones are encoded data, not words: they would only fill the vocabulary
_CHUNK = re.compile(r"\w+(?:[.'’]\w+)*")
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+|\d+[^\W\dA-Z_]*")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")
_APOSTROPHES = str.maketrans("’", "'")

# Words that questions have and answers need not: the most frequent function words, and what people put around a question.
# Not in the list: words that Python or an answer gives a meaning (`not`, `in`, `is`, `with`, `for`, `if`, `while`, `all`, `any`).
_STOP_TEXT = """
a an and are as at be been but by can could did do does doesn't don't get gets got had has have he her here
him his how i i'd i'm i've it it's its just like made make me my of on or our please should so some tell than
that the their them then there these they thing this those to us want was way we were what what's when where
which who why will would you your
"""
STOP_WORDS = frozenset(_STOP_TEXT.split())


class WordIds(NamedTuple):
    """Words of many texts: those of text i are `words[id] for id in ids[offsets[i] : offsets[i + 1]]`."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]  # (texts + 1,)
    words: list[str]  # distinct, in order of appearance


def split_words(text: str) -> list[str]:
    """Return the words of one text in order."""
    return [word for chunk in _find_chunks(text) for word in _split_chunk(chunk)]


def split_content_words(text: str) -> list[str]:
    """Return the words of a query without stop words; all of its words if it has no others."""
    words = split_words(text)
    return [word for word in words if word not in STOP_STEMS] or words


def split_texts(texts: Iterable[str]) -> WordIds:
    """Return the words of many texts as ids: what `split_words` gives for each, some ten times faster."""
    numbers: dict[str, int] = {}  # of chunks
    chunks, ends = array("i"), [0]
    for text in texts:
        chunks.extend([numbers.setdefault(chunk, len(numbers)) for chunk in _find_chunks(text)])
        ends.append(len(chunks))
    ids_of: dict[str, int] = {}
    pieces, starts = array("i"), [0]
    for chunk in numbers:
        pieces.extend([ids_of.setdefault(word, len(ids_of)) for word in _split_chunk.__wrapped__(chunk)])
        starts.append(len(pieces))
    ids, offsets = _expand(np.array(chunks, np.int32), np.array(ends), np.array(pieces, np.int32), np.array(starts))
    return WordIds(ids, offsets, list(ids_of))


def _expand(
    chunks: NDArray[np.int32], ends: NDArray[np.int64], pieces: NDArray[np.int32], starts: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Replace each chunk by the ids of its words. Return (ids, offsets of the texts)."""
    lengths = np.diff(starts)[chunks]
    after = np.concatenate([[0], np.cumsum(lengths)])
    within = np.arange(after[-1]) - np.repeat(after[:-1], lengths)
    return pieces[np.repeat(starts[chunks], lengths) + within], after[ends]


def _find_chunks(text: str) -> list[str]:
    """Return runs of letters and digits, with the dots, apostrophes and underscores inside them."""
    return _CHUNK.findall(text if text.isascii() else _normalize(text))


def _normalize(text: str) -> str:
    """Return compatibility forms as plain letters, without accents."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(char for char in decomposed if not unicodedata.combining(char))


@lru_cache(maxsize=1 << 16)
def _split_chunk(chunk: str) -> tuple[str, ...]:
    """Return the words of one chunk: itself, its dotted parts, their pieces; each once."""
    stemmer = Stemmer.Stemmer("english", 0)  # not thread-safe, and takes less than a microsecond to create
    words: dict[str, None] = {}
    for part in (chunk, *chunk.split(".")) if "." in chunk else (chunk,):
        part = part.translate(_APOSTROPHES).removesuffix("'s")
        is_plain = "." in part or "'" in part or (part.isalpha() and part.islower())
        for piece in (part,) if is_plain else (part, *_PIECE.findall(part)):
            for word in _split_unspaced(piece.lower()):
                if len(word) <= MAX_WORD_CHARS:
                    words[stemmer.stemWord(word)] = None
    return tuple(words)


def _split_unspaced(word: str) -> Iterable[str]:
    """Yield the pairs of neighboring characters where a script has no spaces; the word itself elsewhere."""
    if word.isascii() or not _UNSPACED.search(word):
        return (word,)
    runs = _UNSPACED.findall(word)
    pairs = [run[at : at + 2] for run in runs for at in range(max(1, len(run) - 1))]
    return [*pairs, *(rest for rest in _UNSPACED.split(word) if rest)]


STOP_STEMS = frozenset(word for stop in STOP_WORDS for word in split_words(stop))

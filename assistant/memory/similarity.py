"""Measure how much remembered sentences have to do with a text: by the embedder's vectors and by words, or by words alone.

In: a text and sentences. Out: a number between 0 and 1 for each: the share of the text's content words that a sentence has, or
the scaled cosine of their vectors where that is larger. The embedder knows the words of documentation; words cover the others.
Time: about 20 µs a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from model.retrieval.embedder import Vectors
from model.retrieval.word_stems import STOP_STEMS, split_words

Measure = Callable[[str, Sequence[str]], list[float]]
_ASKING = frozenset(
    split_words(
        "is in for with not if remember tell told know about say said called whose hi hello hey thanks thank please"
    )
)
# Of 12 everyday sentences and 14 questions, unrelated pairs without a common word have cosines up to 0.17, and a related one
# (a table from a file; CSV files) 0.36. So 0.3 counts as much as half of the content words.
SAME_COSINE = 0.6
MAX_BY_COSINE = 0.7  # vectors alone never make a sentence so similar that it is replaced without asking


class TextEmbedder(Protocol):
    """What is needed of model.retrieval.embedder.Embedder."""

    def embed(self, texts: Sequence[str]) -> Vectors: ...


def list_content(text: str) -> list[str]:
    """Return the stems that say what a text is about."""
    return [stem for stem in dict.fromkeys(split_words(text)) if stem not in STOP_STEMS and stem not in _ASKING]


def make_measure(embedder: TextEmbedder | None) -> Measure:
    """Return the function that measures."""

    def measure(text: str, sentences: Sequence[str]) -> list[float]:
        content = list_content(text)
        shares = [_share(content, sentence) for sentence in sentences]
        if embedder is None or not sentences:
            return shares
        rows = embedder.embed([" ".join(content), *(" ".join(list_content(sentence)) for sentence in sentences)])
        cosines = [float(value) for value in rows[1:] @ rows[0]]
        scaled = [min(cosine / SAME_COSINE, MAX_BY_COSINE) for cosine in cosines]
        return [max(share, value) for share, value in zip(shares, scaled, strict=True)]

    return measure


def _share(content: Sequence[str], sentence: str) -> float:
    own = set(split_words(sentence))
    return sum(stem in own for stem in content) / len(content) if content else 0.0

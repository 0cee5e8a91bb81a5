"""Measure how much remembered sentences have to do with a text: by the embedder's vectors and by words, or by words alone.

In: a text and sentences. Out: a number between 0 and 1 for each: the share of the text's content words that a sentence has, or
the cosine of their vectors where that is larger. The embedder knows the words of documentation; words cover the others.
Time: about 20 µs a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from model.retrieval.embedder import Vectors
from model.retrieval.word_stems import STOP_STEMS, split_words

Measure = Callable[[str, Sequence[str]], list[float]]
_ASKING = frozenset(split_words("is in for with not if remember tell told know about say said called whose"))
ALIKE_COSINE = 0.6  # unrelated sentences of everyday words have up to 0.5, because the embedder knows few of them


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
        return [
            max(share, cosine if cosine >= ALIKE_COSINE else 0.0) for share, cosine in zip(shares, cosines, strict=True)
        ]

    return measure


def _share(content: Sequence[str], sentence: str) -> float:
    own = set(split_words(sentence))
    return sum(stem in own for stem in content) / len(content) if content else 0.0

"""Read the units of an index for training: words, counts by part, texts that are equal, and who may learn from which.

In: a segment. Out: `UnitCorpus`. The vocabulary is the words that enough units have, without stop words and dotted names.
Documents are split by the hash of their text, so that copies under several names are on one side: embedder, reranker or test.
Answers of questions for training go where their question goes. Answers of held-out questions stay where they are: the questions
are unseen, and the documents are what is searched.

Memory: a few times the text. Time: 8 CPU-s for 60,000 units of 40 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from model.retrieval.reranking.unit_parts import UnitParts, cut_units
from model.retrieval.reranking.unit_words import SplitUnits, split_units
from model.retrieval.segment import Segment
from model.retrieval.word_stems import STOP_STEMS
from pipeline.embed.pairs import Texts, make_texts
from pipeline.embed.params import Embed
from pipeline.embed.questions import Question
from pipeline.embed.word_counts import count_words

EMBEDDER, RERANKER, TEST = range(3)
SHARES = 10_000


class UnitCorpus(NamedTuple):
    """All that training needs of an index."""

    parts: UnitParts
    units: SplitUnits
    words: list[str]  # the vocabulary in the order of its bytes
    numbers: NDArray[np.int32]  # of the words of `units` in the vocabulary, -1 for others
    texts: Texts
    groups: NDArray[np.int64]  # equal for units with the same text


def read_corpus(segment: Segment, min_docs: int, max_words: int) -> UnitCorpus:
    """Return the corpus of an index."""
    parts = cut_units(segment)
    units = split_units(parts)
    words, numbers = choose_words(units, min_docs, max_words)
    flat = numbers[units.split.ids] if len(units.split.ids) else units.split.ids
    spans = (("title", "title"), ("first", "first"), ("rest", "facets"))
    titles, firsts, rests = (count_words(flat, *units.span(*span)) for span in spans)
    texts = make_texts(titles, firsts, rests, len(words))
    return UnitCorpus(parts, units, words, numbers, texts, group_texts(parts))


def choose_words(units: SplitUnits, min_docs: int, max_words: int) -> tuple[list[str], NDArray[np.int32]]:
    """Return the vocabulary, and for each word of the units its number there, -1 for a word that is not in it."""
    split = units.split
    n_docs = count_words(split.ids, *units.span("title", "facets")).count_docs(len(split.words))
    usable = [
        (-int(n), word) for word, n in zip(split.words, n_docs, strict=True) if n >= min_docs and _is_usable(word)
    ]
    words = sorted((word for _, word in sorted(usable)[:max_words]), key=str.encode)
    rows = {word: row for row, word in enumerate(words)}
    return words, np.array([rows.get(word, -1) for word in split.words], np.int32)


def _is_usable(word: str) -> bool:
    return "." not in word and word not in STOP_STEMS and not any("\ud800" <= char <= "\udfff" for char in word)


def group_texts(parts: UnitParts) -> NDArray[np.int64]:
    """Return a number for each unit, equal for units whose texts differ in white space or in their titles only."""
    keys = [_hash(_join_text(parts, row) or parts.titles[row]) for row in range(len(parts.titles))]
    return np.unique(np.array(keys, np.uint64), return_inverse=True)[1].astype(np.int64)


def _join_text(parts: UnitParts, row: int) -> str:
    return " ".join(f"{parts.firsts[row]} {parts.rests[row]} {parts.facets[row]}".split())


def _hash(text: str, seed: int = 0) -> int:
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", "surrogatepass"), seed=seed)


def split_documents(
    params: Embed, corpus: UnitCorpus, questions: Sequence[Question]
) -> tuple[NDArray[np.int8], list[int]]:
    """Return the side of each unit, and of each question: EMBEDDER, RERANKER or TEST."""
    sides = [_place_question(params, question, corpus) for question in questions]
    firsts = np.unique(corpus.groups, return_index=True)[1]
    shares = np.array([_hash(_join_text(corpus.parts, row), params.seed) % SHARES / SHARES for row in firsts.tolist()])
    by_group = np.full(len(firsts), EMBEDDER, np.int8)
    by_group[shares < params.reranker_frac + params.test_frac] = TEST
    by_group[shares < params.reranker_frac] = RERANKER
    for side in (EMBEDDER, RERANKER):
        answers = [row for question, own in zip(questions, sides, strict=True) if own == side for row in question.rows]
        by_group[corpus.groups[np.array(answers, np.int64)]] = side
    return by_group[corpus.groups], sides


def _place_question(params: Embed, question: Question, corpus: UnitCorpus) -> int:
    if question.split == "heldout":
        return TEST
    title = corpus.parts.titles[question.rows[0]]
    share = _hash(title, params.seed) % SHARES / SHARES
    return RERANKER if share < params.reranker_question_frac else EMBEDDER

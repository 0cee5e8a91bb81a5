"""Search prose in words, such as a user's own documents, alone or beside the index of documentation.

In: a query, the user's question if it is known. Out: units, best first, and a trace of each step. A word of the query also counts
as its synonyms, and the cosine of the embedder adds a little. There is no reranker: it has learned from documentation, and puts
sections that have no word of the question last. Measured on the handbook in data/seed, questions in other words than the pages':
the right section is among the first three for 71 %, with the index's fusion and reranker for 39 %. Where both are searched, their
results alternate; those whose best section has more words of the question come first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import reduce
from itertools import zip_longest
from operator import add

import numpy as np

from model.retrieval.bm25 import Ranked
from model.retrieval.search_results import TraceStep
from model.retrieval.synonyms import expand_words, list_synonyms
from model.retrieval.word_search import MAX_WORDS, POOL, Embeds, Reranks, Source, WordSearch, merge_rankings
from model.retrieval.word_stems import split_content_words, split_words

COSINE_WEIGHT = 0.2  # of scores scaled to 1: 0.2 is best at the first place (49.1 %; 0: 47.8, 0.5: 47.8, 1: 44.3)


class MixedSearch:
    """Ranks the units of documentation as `WordSearch` does, and those of prose by words, synonyms and cosines."""

    def __init__(self, sources: Sequence[Source], embedder: Embeds | None, reranker: Reranks | None) -> None:
        documentation = [source for source in sources if not source.has_synonyms]
        prose = [source for source in sources if source.has_synonyms]
        self._documentation = WordSearch(documentation, embedder, reranker)
        self._prose = WordSearch(prose, embedder, None)
        self._n_documentation = int(self._documentation.starts[-1])
        self.min_score = -math.inf if reranker is None else reranker.min_score

    def locate(self, unit: int) -> tuple[Source, int]:
        """Return the source and the row of a unit."""
        if unit < self._n_documentation:
            return self._documentation.locate(unit)
        return self._prose.locate(unit - self._n_documentation)

    def rank(self, query: str, question: str, trace: list[TraceStep]) -> Ranked:
        """Return units, best first, and add the steps to `trace`."""
        if not self._prose.sources:
            return self._documentation.rank(query, question, trace)
        words = list(dict.fromkeys(split_content_words(query)))[:MAX_WORDS]
        prose = rank_prose(self._prose, words, question or query, trace)
        prose = Ranked(prose.rows + self._n_documentation, prose.scores)
        if not self._documentation.sources:
            return prose
        documentation = self._documentation.rank(query, question, trace)
        first, second = (prose, documentation)
        if self._count_words(documentation, words) > self._count_words(prose, words):
            first, second = second, first
        pairs = zip_longest(*(zip(each.rows, each.scores, strict=True) for each in (first, second)))
        units = [unit for pair in pairs for unit in pair if unit is not None]
        return Ranked(
            np.array([row for row, _ in units], np.int64), np.array([score for _, score in units], np.float32)
        )

    def _count_words(self, ranked: Ranked, words: Sequence[str]) -> int:
        """Return how many words of the query, or synonyms of them, the best unit has."""
        if not len(ranked.rows):
            return 0
        source, row = self.locate(int(ranked.rows[0]))
        section = source.segment.sections[row]
        own = set(split_words(" ".join([section.title, *section.heading, section.text])))
        return sum(
            any(each in own for each in (list_synonyms(word) if source.has_synonyms else (word,))) for word in words
        )


def rank_prose(search: WordSearch, words: Sequence[str], question: str, trace: list[TraceStep]) -> Ranked:
    """Return the units of prose, best first: BM25 with synonyms, and a little of the cosine."""
    started = time.perf_counter()
    boosts = expand_words(words)
    indexes = [source.segment.bm25 for source in search.sources]
    statistics = reduce(add, [index.get_statistics(list(boosts)) for index in indexes])
    ranked = [index.rank(list(boosts), POOL, statistics, list(boosts.values())) for index in indexes]
    by_words = merge_rankings(ranked, search.starts, POOL)
    trace.append(search.make_step("prose: bm25 with synonyms", started, by_words))
    by_vectors = search.run_vectors(question, trace, "prose: vectors")
    started = time.perf_counter()
    scale = float(by_words.scores[0]) if len(by_words.scores) else 1.0
    scores = {int(row): float(score) / scale for row, score in zip(*by_words, strict=True)}
    for row, cosine in zip(*by_vectors, strict=True):
        if scores and (int(row) in scores or cosine > 0):
            scores[int(row)] = scores.get(int(row), 0.0) + COSINE_WEIGHT * float(cosine)
    rows = sorted(scores, key=lambda row: (-scores[row], row))
    joined = Ranked(np.array(rows, np.int64), np.array([scores[row] for row in rows], np.float32))
    trace.append(search.make_step("prose: joined", started, joined))
    return joined

"""Search in words over several segments: BM25 ∪ vectors → reciprocal rank fusion → reranker.

In: a query in words, the user's question if it is known. Out: units, best first, and a trace of each step. Statistics of words are
summed over the segments, so that a word is as rare as it is in all of them together. Without embedder and reranker the order is
BM25's, scaled by a prior: a public name that other documents mention often is what people ask about.

A store of vectors that is down is named in the trace, and the search goes on without it.
Unit numbers count over all segments: those of the second one follow those of the first. Time: 2 ms at 60,000 units.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.retrieval.bm25 import Ranked
from model.retrieval.fusion import NO_RANK, SearchCandidates, fuse
from model.retrieval.search_results import TraceStep
from model.retrieval.segment import Segment
from model.retrieval.stores.vectors import VectorStore
from model.retrieval.word_stems import split_content_words

# Units that each ranking contributes, and that are reranked; of 60, first sentences are found 2 % less often.
POOL = 100
MAX_WORDS = 32  # distinct words of a query that are looked up
SHOWN_IN_TRACE = 10
MENTION_WEIGHT = 0.12  # of log(1 + mentions) in the prior
PRIVATE_FACTOR = 0.5


class Embeds(Protocol):
    """What a search needs of an embedder."""

    width: int

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]: ...


class Reranks(Protocol):
    """What a search needs of a reranker. Answers with a score below `min_score` are off topic."""

    min_score: float

    def score(self, candidates: SearchCandidates) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class Source:
    """A segment that is searched, the vectors of its units if there are any, the name that results carry, and whether a word of a
    query also counts as its synonyms, as it should in prose about everyday things (model/retrieval/prose_search.py)."""

    segment: Segment
    vectors: VectorStore | None = None
    name: str = ""
    has_synonyms: bool = False


class WordSearch:
    """Ranks the units of some sources for queries in words."""

    def __init__(self, sources: Sequence[Source], embedder: Embeds | None, reranker: Reranks | None) -> None:
        self.sources, self.embedder, self.reranker = sources, embedder, reranker
        self.starts = np.concatenate([[0], np.cumsum([source.segment.sections.n_units for source in sources])])

    def locate(self, unit: int) -> tuple[Source, int]:
        """Return the source and the row of a unit."""
        at = int(np.searchsorted(self.starts, unit, side="right")) - 1
        return self.sources[at], unit - int(self.starts[at])

    def rank(self, query: str, question: str, trace: list[TraceStep]) -> Ranked:
        """Return units, best first, and add the steps to `trace`."""
        words = list(dict.fromkeys(split_content_words(query)))[:MAX_WORDS]
        rankings = {"bm25": self._run("bm25", lambda: self._rank_words(words), trace)}
        if self.embedder is not None:
            rankings["vectors"] = self.run_vectors(question or query, trace)
        started = time.perf_counter()
        fused, places = fuse(rankings, POOL)
        trace.append(self.make_step("fusion", started, fused))
        if self.reranker is not None:
            return self._run("reranker", lambda: self._rerank(query, question, fused, places), trace)
        name = "prior (no reranker)" if self.embedder is not None else "prior (no vectors, no reranker)"
        return self._run(name, lambda: self._apply_prior(fused, places), trace)

    def _run(self, name: str, step: Callable[[], Ranked], trace: list[TraceStep]) -> Ranked:
        started = time.perf_counter()
        ranked = step()
        trace.append(self.make_step(name, started, ranked))
        return ranked

    def run_vectors(self, text: str, trace: list[TraceStep], name: str = "vectors") -> Ranked:
        """Rank by vectors, if there is an embedder; a store that is down is named in the trace, and the search goes on without."""
        try:
            if self.embedder is not None:
                return self._run(name, lambda: self._rank_vectors(text), trace)
        except ValueError as error:
            trace.append(TraceStep(name, 0.0, note=f"{error}; searching by names and words alone"))
        return merge_rankings([], [], POOL)

    def make_step(self, name: str, started: float, ranked: Ranked) -> TraceStep:
        milliseconds = (time.perf_counter() - started) * 1000
        pairs = zip(ranked.rows[:SHOWN_IN_TRACE], ranked.scores[:SHOWN_IN_TRACE], strict=True)
        return TraceStep(name, milliseconds, tuple((self.get_title(int(unit)), float(score)) for unit, score in pairs))

    def get_title(self, unit: int) -> str:
        """Return the title of a unit."""
        source, row = self.locate(unit)
        return str(source.segment.sections.value("title", row))

    def _rank_words(self, words: Sequence[str]) -> Ranked:
        indexes = [source.segment.bm25 for source in self.sources]
        if not indexes or not words:
            return merge_rankings([], [], POOL)
        statistics = reduce(add, [index.get_statistics(words) for index in indexes])
        return merge_rankings([index.rank(words, POOL, statistics) for index in indexes], self.starts, POOL)

    def _rank_vectors(self, text: str) -> Ranked:
        assert self.embedder is not None
        vector = self.embedder.embed([text])[0]
        stored = [(source.vectors, start) for source, start in zip(self.sources, self.starts, strict=False)]
        parts = [(store.search(vector, POOL), start) for store, start in stored if store is not None]
        return merge_rankings([part for part, _ in parts], [int(start) for _, start in parts], POOL)

    def _rerank(self, query: str, question: str, fused: Ranked, places: dict[str, Ranked]) -> Ranked:
        """Score the candidates of each source with the reranker and merge them."""
        assert self.reranker is not None
        scores = np.zeros(len(fused.rows), np.float32)
        missing = Ranked(np.full(len(fused.rows), NO_RANK, np.int64), np.zeros(len(fused.rows), np.float32))
        bm25, vectors = places["bm25"], places.get("vectors", missing)
        owners = np.searchsorted(self.starts, fused.rows, side="right") - 1
        for at in np.unique(owners):
            own = owners == at
            scores[own] = self.reranker.score(
                SearchCandidates(
                    query,
                    question,
                    self.sources[at].segment,
                    fused.rows[own] - self.starts[at],
                    fused.scores[own],
                    bm25.scores[own],
                    bm25.rows[own],
                    vectors.scores[own],
                    vectors.rows[own],
                )
            )
        order = np.argsort(-scores, kind="stable")
        return Ranked(fused.rows[order], scores[order])

    def _apply_prior(self, fused: Ranked, places: dict[str, Ranked]) -> Ranked:
        scores = places["bm25"].scores if "vectors" not in places else fused.scores
        factors = np.array([self._measure_prior(int(unit)) for unit in fused.rows], np.float32)
        scores = scores * factors if len(factors) else scores
        order = np.argsort(-scores, kind="stable")
        return Ranked(fused.rows[order], scores[order])

    def _measure_prior(self, unit: int) -> float:
        source, row = self.locate(unit)
        sections = source.segment.sections
        prior = 1.0 + MENTION_WEIGHT * float(np.log1p(sections.value("n_mentions", row)))
        is_private = sections.value("kind", row) == "symbol" and "._" in f".{sections.value('title', row)}"
        return prior * (PRIVATE_FACTOR if is_private else 1.0)


def merge_rankings(parts: Sequence[Ranked], starts: Sequence[int] | NDArray[np.int64], limit: int) -> Ranked:
    """Return the best of several rankings; rows become unit numbers."""
    if not parts:
        return Ranked(np.zeros(0, np.int64), np.zeros(0, np.float32))
    rows = np.concatenate([part.rows + int(start) for part, start in zip(parts, starts, strict=False)])
    scores = np.concatenate([part.scores for part in parts])
    order = np.lexsort((rows, -scores))[:limit]
    return Ranked(rows[order], scores[order])

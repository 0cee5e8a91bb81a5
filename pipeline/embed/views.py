"""Search an index as the assistant does, with the steps laid open: rankings, candidates, features.

In: a segment with the vectors and words of its units; queries. Out: rankings by step, and lists to train the reranker on. There
are two views: the index as it is, and the same units without their first sentences, in which a first sentence must find its own
rest.

Time: 3 CPU-ms a query.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.retrieval.bm25 import Bm25, write_bm25
from model.retrieval.embedder import Embedder
from model.retrieval.fusion import SearchCandidates
from model.retrieval.reranker import Reranker, apply_network
from model.retrieval.reranking.features import measure_candidates
from model.retrieval.reranking.unit_words import (
    MAX_WORDS,
    UnitWords,
    describe_units,
    encode_words,
    keep_first,
)
from model.retrieval.segment import FIELD_WEIGHTS, Segment
from model.retrieval.stores.vectors import ExactStore
from model.retrieval.word_search import MAX_WORDS as MAX_WORDS_OF_QUERY
from model.retrieval.word_search import POOL, Source, WordSearch
from model.retrieval.word_stems import WordIds, split_content_words
from pipeline.embed.corpus import UnitCorpus
from pipeline.embed.parallel import Matrix
from pipeline.embed.reranker_training import RankedList
from pipeline.embed.word_counts import Counts


class Recorder:
    """A reranker that keeps the candidates it is given, in their order."""

    min_score = -np.inf

    def __init__(self) -> None:
        self.candidates: SearchCandidates | None = None

    def score(self, candidates: SearchCandidates) -> NDArray[np.float32]:
        """Keep the candidates; the order stays."""
        self.candidates = candidates
        return -np.arange(len(candidates.rows), dtype=np.float32)


@dataclass(frozen=True)
class View:
    """An index that can be searched step by step."""

    segment: Segment
    store: ExactStore
    units: UnitWords
    embedder: Embedder

    def rank_words(self, query: str) -> NDArray[np.int64]:
        """Return the rows that BM25 finds."""
        words = list(dict.fromkeys(split_content_words(query)))[:MAX_WORDS_OF_QUERY]
        return self.segment.bm25.rank(words, POOL).rows

    def rank_vectors(self, query: str) -> NDArray[np.int64]:
        """Return the rows with the nearest vectors."""
        return self.store.search(self.embedder.embed([query])[0], POOL).rows

    def collect(self, query: str) -> SearchCandidates | None:
        """Return the fused candidates, best first, or None if there are none."""
        recorder = Recorder()
        WordSearch([Source(self.segment, self.store)], self.embedder, recorder).rank(query, "", [])
        return recorder.candidates

    def measure(self, candidates: SearchCandidates, packages: frozenset[str]) -> Matrix:
        """Return the features of candidates."""
        return measure_candidates(candidates, self.units, candidates.rows, self.embedder, packages)

    def make_list(
        self, query: str, answers: Sequence[int], groups: NDArray[np.int64], packages: frozenset[str], weight: float
    ) -> RankedList | None:
        """Return the candidates of a query as a list to learn from; a text under another name is an answer, too."""
        candidates = self.collect(query)
        if candidates is None:
            return None
        is_answer = np.isin(groups[candidates.rows], groups[np.array(answers, np.int64)])
        return RankedList(self.measure(candidates, packages), is_answer, weight)


def open_view(segment: Segment, corpus: UnitCorpus, embedder: Embedder) -> View:
    """Return the view of an index as it is."""
    store = ExactStore(embedder.width)
    store.add(np.arange(len(corpus.groups)), embed_counts(embedder, corpus.texts.wholes))
    return View(segment, store, describe_units(corpus.units, embedder), embedder)


def open_bare_view(segment: Segment, corpus: UnitCorpus, embedder: Embedder, folder: Path) -> View:
    """Return the view without first sentences; `folder` gets its BM25."""
    units, path = corpus.units, folder / "bare.arrow"
    fields = [_take_words(units.split, *units.span(part, part)) for part in ("title", "rest", "facets")]
    write_bm25(path, list(zip(fields, FIELD_WEIGHTS, strict=True)))
    bare = copy.copy(segment)
    bare.bm25 = Bm25.open(path)
    store = ExactStore(embedder.width)
    store.add(np.arange(len(corpus.groups)), embed_counts(embedder, corpus.texts.bodies))
    words = describe_units(units, embedder)
    codes = encode_words(units.split.words, embedder)[units.split.ids]
    firsts = keep_first(codes, *units.span("rest", "facets"), MAX_WORDS["firsts"] // 2)
    return View(bare, store, words._replace(firsts=firsts), embedder)


def embed_counts(embedder: Embedder, counts: Counts) -> Matrix:
    """Return the vectors of texts from counts of their words."""
    repeats = counts.counts.astype(np.int64)
    ends = np.concatenate([[0], np.cumsum(repeats)])[counts.starts]
    return embedder.embed_rows(np.repeat(counts.ids, repeats), ends[:-1], ends[1:])


def _take_words(split: WordIds, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> WordIds:
    lengths = ends - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    at = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - starts, lengths)
    return WordIds(split.ids[at], offsets, split.words)


def rerank(view: View, reranker: Reranker, query: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows as fused, and as reranked."""
    candidates = view.collect(query)
    if candidates is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    scores = apply_network(reranker.weights, view.measure(candidates, reranker.packages))
    return candidates.rows, candidates.rows[np.argsort(-scores, kind="stable")]

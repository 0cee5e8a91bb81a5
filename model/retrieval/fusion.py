"""Join rankings by reciprocal rank fusion: 1 / (60 + rank), added up over the rankings (Cormack, Clarke & Büttcher, SIGIR 2009).

In: rankings of rows, best first. Out: the best rows with the score and rank that each ranking gave them. Time: O(rows).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.retrieval.bm25 import Ranked

OFFSET = 60  # the paper's value
NO_RANK = 10_000  # of a row that a ranking has not returned


class SearchCandidates(NamedTuple):
    """Units that may answer, best first, and what is known about each: arrays of equal length, the input of a reranker.

    `query` is the argument of the search, `question` the user's words ("" if unknown). Ranks count from 0.
    """

    query: str
    question: str
    segment: Any  # the model.retrieval.segment.Segment that the rows belong to
    rows: NDArray[np.int64]
    fused: NDArray[np.float32]
    bm25: NDArray[np.float32]
    bm25_rank: NDArray[np.int64]
    cosine: NDArray[np.float32]
    cosine_rank: NDArray[np.int64]


def fuse(rankings: Mapping[str, Ranked], limit: int) -> tuple[Ranked, dict[str, Ranked]]:
    """Return the `limit` best rows with their fused scores, and for each ranking the ranks and scores that it gave these rows."""
    rows = np.unique(np.concatenate([ranked.rows for ranked in rankings.values()] or [np.zeros(0, np.int64)]))
    total = np.zeros(len(rows), np.float64)
    places: dict[str, Ranked] = {}
    for name, ranked in rankings.items():
        ranks, scores = np.full(len(rows), NO_RANK, np.int64), np.zeros(len(rows), np.float32)
        at = np.searchsorted(rows, ranked.rows)
        ranks[at], scores[at] = np.arange(len(ranked.rows)), ranked.scores
        total += np.where(ranks < NO_RANK, 1.0 / (OFFSET + 1 + ranks), 0.0)
        places[name] = Ranked(ranks, scores)
    order = np.lexsort((rows, -total))[:limit]
    kept = {name: Ranked(place.rows[order], place.scores[order]) for name, place in places.items()}
    return Ranked(rows[order], total[order].astype(np.float32)), kept

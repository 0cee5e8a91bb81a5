"""Order candidates by a small network over their features.

In: candidates of a search. Out: one score per candidate; only differences within one search mean anything. The score is the sum of
the reciprocal ranks and the output of one hidden layer of rectified linear units over standardized features, which pipeline/embed
trains on lists; untrained, it leaves the fused order. Time: 2 ms for 60 candidates.

Covers: the index that it was trained with, whose words are mapped, and any other segment, whose words are split at each search.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.retrieval.embedder import Embedder
from model.retrieval.fusion import SearchCandidates
from model.retrieval.mapped_arrays import describe_foreign, map_arrays, write_arrays
from model.retrieval.reranking.features import FEATURES, measure_candidates
from model.retrieval.reranking.unit_parts import cut_units
from model.retrieval.reranking.unit_words import UnitWords, describe_units, split_units
from model.retrieval.segment import Segment

FILE = "reranker.arrow"
ARRAYS = ("features", "packages", "means", "scales", "hidden", "hidden_bias", "output", "min_score")
RANKS = [FEATURES.index(name) for name in ("bm25_reciprocal_rank", "cosine_reciprocal_rank")]
Floats = NDArray[np.float32]


class Reranker:
    """Holds the network, and the words of the units of the index that it was trained with. A unit whose score is below `min_score`
    says nothing about the question: nearly all right answers have more."""

    def __init__(
        self,
        weights: dict[str, NDArray[Any]],
        packages: frozenset[str],
        embedder: Embedder,
        units: UnitWords,
        digest: str,
    ) -> None:
        self.weights, self.packages, self.embedder, self.units, self.digest = weights, packages, embedder, units, digest
        self.min_score = float(weights["min_score"][0])

    @classmethod
    def load(cls, folder: Path) -> Reranker:
        """Read the files of a folder. Raises: ValueError for a file that is missing, truncated, foreign or of other features."""
        arrays = map_arrays(folder / FILE, (*ARRAYS, "digest"))
        names = arrays["features"].tobytes().decode("utf-8", "replace").split()
        n = len(FEATURES)
        width = len(arrays["output"])
        sizes = [len(arrays[name]) for name in ("means", "scales", "hidden", "hidden_bias")]
        if tuple(names) != FEATURES or sizes != [n, n, n * width, width]:
            raise ValueError(describe_foreign(folder / FILE, f"weights for the features {' '.join(names)[:200]}"))
        weights = {name: arrays[name] for name in ARRAYS[2:]} | {"hidden": arrays["hidden"].reshape(n, width)}
        packages = frozenset(arrays["packages"].tobytes().decode().split())
        digest = arrays["digest"].tobytes().decode()
        return cls(weights, packages, Embedder.load(folder), UnitWords.load(folder), digest)

    def save(self, folder: Path) -> None:
        """Write the network; embedder and units have files of their own."""
        texts = {"features": " ".join(FEATURES), "packages": " ".join(sorted(self.packages)), "digest": self.digest}
        arrays = {name: np.frombuffer(text.encode(), np.uint8) for name, text in texts.items()}
        write_arrays(folder / FILE, arrays | {name: self.weights[name].ravel() for name in ARRAYS[2:]})

    def score(self, candidates: SearchCandidates) -> Floats:
        """Return one score per candidate."""
        if not len(candidates.rows):
            return np.zeros(0, np.float32)
        return apply_network(self.weights, self.measure(candidates))

    def measure(self, candidates: SearchCandidates) -> Floats:
        """Return the features of each candidate."""
        segment: Segment = candidates.segment
        units, rows = self.units, candidates.rows
        if segment.digest != self.digest:
            units, rows = (
                describe_units(split_units(cut_units(segment, rows.tolist())), self.embedder),
                np.arange(len(rows)),
            )
        return measure_candidates(candidates, units, rows, self.embedder, self.packages)


def apply_network(weights: dict[str, NDArray[Any]], features: Floats) -> Floats:
    """Return the scores of candidates from their features: reciprocal ranks, which the network corrects."""
    standard = (features - weights["means"]) / weights["scales"]
    hidden = np.maximum(standard @ weights["hidden"] + weights["hidden_bias"], 0)
    return (sum_ranks(features) + hidden @ weights["output"]).astype(np.float32)


def sum_ranks(features: Floats) -> Floats:
    """Return the score from which the network starts: the order of the fused rankings."""
    return features[:, RANKS].sum(axis=1)

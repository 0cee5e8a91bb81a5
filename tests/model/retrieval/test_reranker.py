from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.retrieval.embedder import Embedder
from model.retrieval.fusion import NO_RANK, SearchCandidates
from model.retrieval.reranker import FILE, Reranker
from model.retrieval.reranking.features import FEATURES
from model.retrieval.reranking.unit_parts import cut_units
from model.retrieval.reranking.unit_words import describe_units, split_units
from model.retrieval.segment import Segment


def make_embedder(segment: Segment) -> Embedder:
    words = sorted({word for word in split_units(cut_units(segment)).split.words if "." not in word})
    return Embedder(words, np.random.default_rng(2).standard_normal((len(words), 8)).astype(np.float16))


def make_reranker(segment: Segment, digest: str) -> Reranker:
    random = np.random.default_rng(3)
    n = len(FEATURES)
    weights = {
        "means": np.zeros(n, np.float32),
        "scales": np.ones(n, np.float32),
        "hidden": random.standard_normal((n, 5)).astype(np.float32),
        "hidden_bias": np.zeros(5, np.float32),
        "output": random.standard_normal(5).astype(np.float32),
        "min_score": np.array([0.5], np.float32),
    }
    embedder = make_embedder(segment)
    units = describe_units(split_units(cut_units(segment)), embedder)
    return Reranker(weights, frozenset({"numpy", "scipy"}), embedder, units, digest)


def make_candidates(segment: Segment, query: str, question: str = "") -> SearchCandidates:
    rows = np.arange(segment.sections.n_units)
    zeros = np.zeros(len(rows), np.float32)
    ranks = np.full(len(rows), NO_RANK)
    return SearchCandidates(query, question, segment, rows, zeros, zeros, ranks, zeros, ranks)


def read_feature(reranker: Reranker, candidates: SearchCandidates, name: str) -> dict[str, float]:
    values = reranker.measure(candidates)[:, FEATURES.index(name)]
    return dict(zip(candidates.segment.sections.column("title"), values.tolist(), strict=False))


def test_words_split_at_the_search_give_the_same_scores_as_stored_ones(segment: Segment) -> None:
    candidates = make_candidates(segment, "inverse of a matrix", "How do I invert a matrix in numpy?")
    stored = make_reranker(segment, segment.digest).score(candidates)
    np.testing.assert_array_equal(stored, make_reranker(segment, "another").score(candidates))


def test_a_saved_reranker_is_the_same(segment: Segment, tmp_path: Path) -> None:
    reranker = make_reranker(segment, segment.digest)
    reranker.embedder.save(tmp_path)
    reranker.units.save(tmp_path)
    reranker.save(tmp_path)
    candidates = make_candidates(segment, "sum of elements")
    np.testing.assert_array_equal(Reranker.load(tmp_path).score(candidates), reranker.score(candidates))


def test_features_tell_what_a_query_meets(segment: Segment) -> None:
    reranker = make_reranker(segment, segment.digest)
    candidates = make_candidates(segment, "numpy sum")
    assert read_feature(reranker, candidates, "tail_covered")["numpy.sum"] == 1
    assert read_feature(reranker, candidates, "tail_covered")["numpy.prod"] == 0
    assert read_feature(reranker, candidates, "package_match")["numpy.prod"] == 1
    assert read_feature(reranker, candidates, "package_conflict")["scipy.linalg.inv"] == 1
    covered = read_feature(reranker, make_candidates(segment, "product elements array"), "cover_first")
    assert covered["numpy.prod"] == pytest.approx(1, abs=1e-3)
    assert covered["print"] == 0


@pytest.mark.parametrize("query", ["", "?!", "the of and", "x" * 100_000, "\ud800 numpy", "; ".join("abc" * 40)])
def test_any_query_has_finite_features(segment: Segment, query: str) -> None:
    features = make_reranker(segment, segment.digest).measure(make_candidates(segment, query))
    assert features.shape == (segment.sections.n_units, len(FEATURES))
    assert np.isfinite(features).all()


@pytest.mark.parametrize("damage", ["missing", "truncated", "features"])
def test_a_damaged_file_is_named(
    segment: Segment, tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker = make_reranker(segment, segment.digest)
    reranker.embedder.save(tmp_path)
    reranker.units.save(tmp_path)
    reranker.save(tmp_path)
    path = tmp_path / FILE
    if damage == "missing":
        path.unlink()
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:300])
    if damage == "features":
        monkeypatch.setattr("model.retrieval.reranker.FEATURES", (*FEATURES[:-1], "other"))
    with pytest.raises(ValueError, match=FILE):
        Reranker.load(tmp_path)

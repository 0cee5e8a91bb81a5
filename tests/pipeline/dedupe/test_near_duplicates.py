"""Decisions made on disk, in many parts, are those made in memory at once."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dedupe import near_duplicates
from pipeline.dedupe.params import Dedupe
from pipeline.dedupe.ranking import Corpus, find_first_equal, rank_documents
from pipeline.dedupe.sketches import SETTINGS, gather_corpus, make_sketches
from pipeline.storage.tables import read_docs
from tests.pipeline.dedupe.corpora import related_texts, write_shards
from tests.pipeline.dedupe.oracle import deduplicate

# Few permutations: dissimilar documents share buckets too, and several centers are elected.
PARAMS = Dedupe(seed=1, ngram_words=2, n_bands=4, n_rows=1, min_jaccard=0.5, source_priority=["a", "b"])


def make_corpus(folder: Path, paths: list[Path], params: Dedupe, memory_bytes: int) -> Corpus:
    (folder / "work").mkdir()
    corpus = gather_corpus(params, make_sketches(params, paths, folder / "sketches"), folder / "work")
    return replace(corpus, memory_bytes=memory_bytes)


@given(
    st.integers(0, 10_000),
    st.integers(1, 60),
    st.integers(1, 4),
    st.sampled_from([40, 1_000, 20_000, 100_000_000]),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
)
@settings(max_examples=20)
def test_any_memory_gives_the_decisions_of_the_algorithm_in_memory(
    seed: int, n: int, n_shards: int, memory_bytes: int, min_jaccard: float
) -> None:
    params = PARAMS.model_copy(update={"min_jaccard": min_jaccard})
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIGPT_ENGINE", "serial")
        patch.setattr(near_duplicates, "MIN_EDGES", 1)
        paths = write_shards(Path(name), related_texts(seed, n), ["b/x", "c", "a"], n_shards)
        expected = deduplicate(
            read_docs(Path(name), ["id", "text", "source"]),
            **params.model_dump(include=SETTINGS - {"search_sources"} | {"min_jaccard"}),
        )
        corpus = make_corpus(Path(name), paths, params, memory_bytes)
        ranks = rank_documents(corpus)
        exact = find_first_equal(corpus, ranks)
        near = near_duplicates.find_near_duplicates(params, paths, corpus, ranks, exact, Path(name) / "sets")
        assert ranks.to_position.tolist() == expected.order.tolist()
        assert ranks.of_position[ranks.to_position].tolist() == list(range(n))
        assert exact.tolist() == expected.exact.tolist()
        assert near.survivor.tolist() == expected.near.survivor.tolist()
        assert near.similarity.tolist() == expected.near.similarity.tolist()
        assert near.n_verified == len(expected.pairs.left)
        assert near.n_candidates == expected.pairs.n_candidates
        assert near.n_clusters == len(np.unique(expected.near.cluster[expected.pairs.left]))


def test_little_memory_means_many_parts(tmp_path: Path) -> None:
    """The property above would be meaningless if everything were in one part."""
    paths = write_shards(tmp_path, related_texts(1, 60), ["a"], 3)
    corpus = make_corpus(tmp_path, paths, PARAMS, 1_000)
    ranks = rank_documents(corpus)
    exact = find_first_equal(corpus, ranks)
    buckets = near_duplicates.group_by_key(PARAMS, corpus, ranks, exact, corpus.make_array("is_candidate", np.bool_))
    assert buckets.members.n_parts > 2 * PARAMS.n_bands
    assert len(list((corpus.folder / "members").glob("*.bin"))) > PARAMS.n_bands
    assert (corpus.folder / "exact.bin").exists()

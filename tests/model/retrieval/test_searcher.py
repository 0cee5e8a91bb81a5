"""Search: names before words, facets, comparisons, traces; no query can do harm."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.retrieval.bm25 import Ranked
from model.retrieval.fusion import SearchCandidates
from model.retrieval.searcher import Searcher
from model.retrieval.segment import Segment
from model.retrieval.stores.vectors import ExactStore
from model.retrieval.word_search import Source
from tests.model.retrieval.conftest import SYMBOLS, make_docs, make_segment


@pytest.fixture(scope="module")
def searcher(segment: Segment) -> Searcher:
    return Searcher([Source(segment)])


def find_titles(searcher: Searcher, query: str) -> list[str]:
    return [result.section.title for result in searcher.search(query).results]


@pytest.mark.parametrize("title", [symbol[0] for symbol in SYMBOLS])
def test_a_title_is_found_alone(searcher: Searcher, title: str) -> None:
    assert find_titles(searcher, title) == [title]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("linalg.inv", "numpy.linalg.inv"),
        ("np.linalg.inv", "numpy.linalg.inv"),
        ("sp.linalg.norm", "scipy.linalg.norm"),
        ("scipy.norm", "scipy.linalg.norm"),
        ("NumPy.Linalg.Inv", "numpy.linalg.inv"),
        ("numpy.linalg.inv()", "numpy.linalg.inv"),
        ("`numpy.linalg.inv(a)`", "numpy.linalg.inv"),
        ("json.dumps???", "json.dumps"),
        ("nn.Linear()", "torch.nn.Linear"),
        ("read_csv", "pandas.read_csv"),
        ("pd.DataFrame.head", "pandas.core.generic.NDFrame.head"),
        ("df.head", "pandas.core.generic.NDFrame.head"),
        ("frame.head", "pandas.core.generic.NDFrame.head"),
        ("Handbook", "Handbook: Leave"),
        ("numpy._core.fromnumeric.sum", "numpy.sum"),
        ("numpy.linalg.nrom", "numpy.linalg.norm"),
        ("pd.raed_csv", "pandas.read_csv"),
        ("how does numpy.linalg.inv work", "numpy.linalg.inv"),
        ("reading csv files", "pandas.read_csv"),
        ("first rows of a table", "pandas.core.generic.NDFrame.head"),
        ("linear transformation", "torch.nn.Linear"),
        ("numpy.sum: axis", "numpy.sum: parameters"),
        ("np.sum: args", "numpy.sum: parameters"),
        ("numpy.sum: Returns", "numpy.sum: returns"),
        ("numpy.sum: examples", "numpy.sum: examples"),
        ("scipy.linalg.inv: check", "scipy.linalg.inv: parameters"),
        ("scipy.linalg.inv: LinAlgError", "scipy.linalg.inv: raises"),
        ("torch.nn.Linear: in_features", "torch.nn.Linear: parameters"),
        ("numpy.sum: signature", "numpy.sum"),
        ("numpy.sum: raises", "numpy.sum"),
        ("Handbook: Parental leave", "Handbook: Parental leave"),
        ("how many weeks for parents", "Handbook: Parental leave"),
    ],
)
def test_the_first_result(searcher: Searcher, query: str, first: str) -> None:
    assert find_titles(searcher, query)[0] == first


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("np.sum()", True),
        ("NUMPY.SUM", True),
        ("print", True),
        ("sum", False),
        ("numpy.smu", False),
        ("", False),
        ("a b", False),
    ],
)
def test_a_name_is_known_as_it_is_documented(searcher: Searcher, name: str, is_known: bool) -> None:
    assert searcher.has_name(name) is is_known


def test_results_of_two_queries_alternate(searcher: Searcher) -> None:
    assert find_titles(searcher, "numpy.sum; numpy.prod") == ["numpy.sum", "numpy.prod"]
    assert find_titles(searcher, "norm; inv")[:2] == ["numpy.linalg.norm", "numpy.linalg.inv"]
    lines = searcher.search("numpy.sum: axis; scipy.linalg.inv: check").text.split("\n")
    assert [line.partition("]")[0] for line in lines] == ["[numpy.sum: axis", "[scipy.linalg.inv: check"]


@pytest.mark.parametrize(
    ("query", "note"),
    [
        ("numpy.linalg.nrom", "numpy.linalg.nrom is not in the documentation; the closest name is numpy.linalg.norm"),
        ("numpy.foobar", "numpy.foobar is not in the documentation"),
        ("scipy.inv", "scipy.inv is not in the documentation; in the same package: scipy.linalg.inv"),
        ("df.head", "df.head is understood as pandas.core.generic.NDFrame.head"),
        ("numpy.sum: bogus", "the documentation of numpy.sum has no part bogus"),
        ("pandas.DataFrame.head", "pandas.DataFrame.head is inherited: pandas.core.generic.NDFrame.head"),
    ],
)
def test_what_differs_from_the_query_is_named(searcher: Searcher, query: str, note: str) -> None:
    assert searcher.search(query).notes == (note,)


@pytest.mark.parametrize(
    "query", ["", " ", "...", "???", "xyzzy", "numpy.foobar", "json.inv", "%", "_", '"', ";", "; ;", ": "]
)
def test_no_section_is_reported_as_text(searcher: Searcher, query: str) -> None:
    assert searcher.search(query).text == "No passage found."


@pytest.mark.parametrize(
    "query",
    [
        "norm_of_x \u19b0x \u19c5",
        "'; DROP TABLE passages; --",
        '" OR 1=1 --',
        "title:norm",
        "(((((",
        "[a-z]+(.*)*$",
        "matrix\0norm",
        "\x1b[31mnorm",
        "\ud800norm",
        "\u202eمصفوفة norm",
        "norm " * 200_000,
        "a." * 500_000,
        "%" * 1_000_000,
        "; ".join(["numpy.sum"] * 100_000),
        "\\",
    ],
)
def test_hostile_queries_are_words(searcher: Searcher, query: str) -> None:
    searcher.search("warm up")
    started_at = time.process_time()
    search = searcher.search(query, question=query)
    assert time.process_time() - started_at < 0.5
    assert len(search.results) <= 3
    assert all("\x1b" not in note for note in search.notes)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text() | st.text('"*^:(){}%_\\ .;-+ANDORsumnp'))
def test_any_query_gives_at_most_three_lines(searcher: Searcher, query: str) -> None:
    lines = searcher.search(query).text.split("\n")
    assert 1 <= len(lines) <= 3
    assert lines == ["No passage found."] or all(line.startswith("[") for line in lines)


def test_the_trace_names_every_step_with_titles_and_scores(searcher: Searcher) -> None:
    steps = searcher.search("inverse of a matrix").trace
    assert [step.name for step in steps] == ["bm25", "fusion", "prior (no vectors, no reranker)"]
    assert all(step.hits and step.milliseconds >= 0 for step in steps)
    assert [step.name for step in searcher.search("np.sum").trace] == ["names: alias"]


def test_a_text_under_several_names_is_shown_once(tmp_path: Path) -> None:
    body = "Return the sum of all elements."
    rows = [
        ("a._private.total", "function", "(x)", body),
        ("a.total", "function", "(y)", body),
        ("b.other", "function", "", "Unlike."),
    ]
    searcher = Searcher([Source(make_segment(tmp_path / "s", make_docs(rows)))])
    assert find_titles(searcher, "total") == ["a.total"]
    assert find_titles(searcher, "sum of elements") == ["a.total"]


class LetterEmbedder:
    """Embeds a text as the frequencies of its letters."""

    width = 26

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        counts = np.array([[text.lower().count(chr(97 + n)) for n in range(26)] for text in texts], np.float32)
        return counts / np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)


class LastFirst:
    """Ranks the candidates in reverse."""

    def __init__(self, min_score: float = -np.inf) -> None:
        self.min_score = min_score
        self.given: list[SearchCandidates] = []

    def score(self, candidates: SearchCandidates) -> NDArray[np.float32]:
        self.given.append(candidates)
        return -candidates.fused


def embed_titles(segment: Segment) -> ExactStore:
    titles = segment.sections.column("title")[: segment.sections.n_units]
    store = ExactStore(26)
    store.add(np.arange(len(titles)), LetterEmbedder().embed(titles))
    return store


def test_vectors_find_what_words_do_not_and_the_reranker_decides(segment: Segment) -> None:
    store, reranker = embed_titles(segment), LastFirst()
    fused = Searcher([Source(segment, store)], LetterEmbedder())
    assert "json.dumps" in [title for title, _ in fused.search("smpud nosj").trace[1].hits[:1]]
    reranked = Searcher([Source(segment, store)], LetterEmbedder(), reranker)
    first, last = reranked.search("matrix inverse", limit=1), fused.search("matrix inverse", limit=1)
    assert [step.name for step in first.trace] == ["bm25", "vectors", "fusion", "reranker"]
    assert first.results != last.results
    assert not any(result.is_off_topic for result in first.results)
    strict = Searcher([Source(segment, store)], LetterEmbedder(), LastFirst(min_score=1.0))
    assert all(result.is_off_topic for result in strict.search("matrix inverse").results)
    assert not any(result.is_off_topic for result in strict.search("numpy.linalg.inv").results)  # found by its name
    given = reranker.given[0]
    assert (given.query, given.question, given.segment) == ("matrix inverse", "", segment)
    assert len(given.rows) == len(given.bm25) == len(given.cosine) == len(given.cosine_rank)


def test_a_store_that_is_down_is_named_and_the_search_goes_on(segment: Segment) -> None:
    class Down(ExactStore):
        def search(self, vector: NDArray[np.float32], limit: int) -> Ranked:
            raise ValueError("the store does not answer")

    search = Searcher([Source(segment, Down(26))], LetterEmbedder()).search("inverse of a matrix")
    assert search.results[0].section.title in ("numpy.linalg.inv", "scipy.linalg.inv")
    assert search.notes == ("the store does not answer; searching by names and words alone",)


def test_two_segments_rank_as_one(segment: Segment, tmp_path: Path) -> None:
    docs = make_docs()
    parts = [make_segment(tmp_path / str(n), docs[n::2]) for n in range(2)]
    whole = Searcher([Source(make_segment(tmp_path / "all", docs))])
    both = Searcher([Source(part, name=f"part {n}") for n, part in enumerate(parts)])
    assert len(both) == len(whole)
    for query in ("inverse of a matrix", "array elements", "first rows", "numpy.prod", "df.head", "norm of a vector"):
        ours, theirs = both.search(query, limit=9), whole.search(query, limit=9)
        assert {result.section.title for result in ours.results} == {result.section.title for result in theirs.results}
        assert [score for _, score in ours.trace[0].hits] == pytest.approx([score for _, score in theirs.trace[0].hits])
    assert {result.collection for result in both.search("array elements").results} == {"part 0", "part 1"}


def test_folders_that_do_not_belong_together_are_refused(segment: Segment, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is not a folder of the stage embed; found: FileNotFoundError"):
        Searcher.open(segment.folder, tmp_path)
    (tmp_path / "embed.json").write_text(json.dumps({"index_sha256": "0" * 64}))
    with pytest.raises(ValueError, match=r"was trained on another index; found 000000000000 instead of .*stage embed"):
        Searcher.open(segment.folder, tmp_path)

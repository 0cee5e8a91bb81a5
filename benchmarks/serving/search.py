"""Search in words among 55,000 sections: our BM25 in mapped arrays against SQLite's FTS5, byte vectors against float32 and BLAS.

Both rank the sections that have any of a query's words; queries are words of one section, which both must find equally often among
their first ten. The table has whole searches (names, BM25, vectors, fusion) and the two vector searches, in processor time.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Result, Row, Work, compare
from benchmarks.text.generated import make_random_words
from model.retrieval.cutting.source_texts import SourceText, cut_documents
from model.retrieval.searcher import Searcher
from model.retrieval.segment import Segment, write_segment
from model.retrieval.stores.vectors import ExactStore
from model.retrieval.word_search import Source
from model.retrieval.word_stems import split_content_words

WIDTH = 256
N_WORDS = 5  # of a query
LIMIT = 10
Vectors = NDArray[np.float32]


class HashEmbedder:
    """Embeds a text as a random direction that its bytes seed."""

    width = WIDTH

    def embed(self, texts: Sequence[str]) -> Vectors:
        return draw_vectors(len(texts), sum(texts[0].encode()) if texts else 0)


def run(*, index: Path | None = None, n_sections: int = 55_000, n_queries: int = 100, n_copies: int = 1) -> Result:
    """Return queries per second on one core. `index`: a folder of the stage index in the place of generated sections, its sections
    repeated `n_copies` times under numbered titles."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = make_texts(n_sections) if index is None else read_texts(index, n_copies)
        write_segment(folder, [section for sections in cut_documents(texts, 100_000) for section in sections])
        segment = Segment.open(folder)
        rows = random.Random(1).sample(range(segment.sections.n_units), n_queries)
        queries = [make_query(str(segment.sections.value("text", row)), row) for row in rows]

        def ours() -> float:
            found = [
                segment.bm25.rank(list(dict.fromkeys(split_content_words(query))), LIMIT).rows for query in queries
            ]
            return sum(row in own for row, own in zip(rows, found, strict=True)) / n_queries

        with closing(make_fts(segment)) as connection:

            def peer() -> float:
                found = [search_fts(connection, query) for query in queries]
                return sum(row in own for row, own in zip(rows, found, strict=True)) / n_queries

            work = f"{n_queries} queries of {N_WORDS} words among {segment.sections.n_units:,} sections, the ten best"
            return compare(
                Work(work, "queries/s", n_queries, "SQLite FTS5"),
                ours,
                peer,
                is_same=lambda found, theirs: found >= theirs - 0.05,
                details=lambda: measure_searches(segment, queries),
            )


def make_texts(n: int) -> list[SourceText]:
    """Return documents of some 60 words whose frequencies follow Zipf's law."""
    vocabulary, rng = make_random_words(random.Random(1)), np.random.default_rng(1)
    chances = 1 / np.arange(1, len(vocabulary) + 1)
    drawn = rng.choice(len(vocabulary), (n, 60), p=chances / chances.sum())
    return [
        SourceText(f"{row:08}", " ".join(vocabulary[word] for word in words), "made", f"Text {row}", "", "CC0-1.0")
        for row, words in enumerate(drawn)
    ]


def read_texts(index: Path, n_copies: int) -> list[SourceText]:
    """Return the units of an index as documents, as often as `n_copies`."""
    sections = Segment.open(index).sections
    titles, texts = (sections.column(name)[: sections.n_units] for name in ("title", "text"))
    return [
        SourceText(f"{copy:04}{row:08}", text, "index", title if not copy else f"{title} {copy}", "", "")
        for copy in range(n_copies)
        for row, (title, text) in enumerate(zip(titles, texts, strict=True))
    ]


def make_query(text: str, seed: int) -> str:
    words = sorted(set(split_content_words(text)))
    return " ".join(random.Random(seed).sample(words, min(N_WORDS, len(words))))


def make_fts(segment: Segment) -> sqlite3.Connection:
    """Return a database in memory with an FTS5 index of the units."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE units USING fts5 (title, text, tokenize = 'porter unicode61')")
    n = segment.sections.n_units
    rows = zip(range(n), segment.sections.column("title")[:n], segment.sections.column("text")[:n], strict=True)
    connection.executemany("INSERT INTO units (rowid, title, text) VALUES (?, ?, ?)", rows)
    connection.execute("INSERT INTO units (units) VALUES ('optimize')")
    return connection


def search_fts(connection: sqlite3.Connection, query: str) -> list[int]:
    sql = "SELECT rowid FROM units WHERE units MATCH ? ORDER BY bm25(units, 4.0, 1.0) LIMIT ?"
    words = " OR ".join(f'"{word}"' for word in query.split())
    return [row for (row,) in connection.execute(sql, (words, LIMIT))] if words else []


def measure_searches(segment: Segment, queries: Sequence[str]) -> list[Row]:
    """Return the processor time of whole searches and of both vector searches."""
    vectors = draw_vectors(segment.sections.n_units, 1)
    store = ExactStore(WIDTH)
    store.add(np.arange(len(vectors)), vectors)
    searcher = Searcher([Source(segment, store)], HashEmbedder())
    probes = draw_vectors(len(queries), 2)
    return [
        describe("whole search", queries, lambda query: searcher.search(query)),
        describe("vectors as bytes, exact", probes, lambda probe: store.search(probe, LIMIT)),
        describe("float32, BLAS, exact", probes, lambda probe: np.argpartition(-(vectors @ probe), LIMIT)),
    ]


def describe(name: str, items: Sequence[str] | Vectors, call: Callable[..., object]) -> Row:
    """Return the percentiles of one call per item."""
    call(items[0])
    seconds = np.array([measure(call, item) for item in items])
    return {
        "step": name,
        "CPU-ms, median": float(np.median(seconds) * 1e3),
        "95 %": float(np.percentile(seconds, 95) * 1e3),
    }


def measure(call: Callable[..., object], item: object) -> float:
    started = time.process_time()
    call(item)
    return time.process_time() - started


def draw_vectors(n: int, seed: int) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((n, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

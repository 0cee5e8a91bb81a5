"""Prose beside documentation: each alone is searched as before; together their results alternate."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.retrieval.cutting.source_texts import SourceText, cut_document
from model.retrieval.searcher import Searcher
from model.retrieval.segment import Segment, write_segment
from model.retrieval.word_search import Source

SYMBOLS = {
    "shop.order": "order(item)\n\nOrder an item from the vacation catalog.",
    "shop.cancel": "cancel(order)\n\nCancel an order of an item.",
}
PAGES = {
    "Annual leave": "Everybody has thirty days of leave in a year.",
    "Canteen": "Lunch is served until two. Order an item at the counter.",
}


@pytest.fixture
def sources(tmp_path: Path) -> tuple[Source, Source]:
    kinds = {"symbols": (SYMBOLS, "function"), "pages": (PAGES, "")}
    opened: list[Segment] = []
    for name, (texts, kind) in kinds.items():
        folder = tmp_path / name
        folder.mkdir()
        docs = [
            SourceText(title, text, name, title, "", "", kind, "(x)" if kind else "") for title, text in texts.items()
        ]
        write_segment(folder, [section for doc in docs for section in cut_document(doc, 600)])
        opened.append(Segment.open(folder))
    return Source(opened[0]), Source(opened[1], name="pages", has_synonyms=True)


def list_titles(searcher: Searcher, query: str) -> list[str]:
    return [result.section.title for result in searcher.search(query, 4).results]


def test_only_prose_is_searched_with_synonyms(sources: tuple[Source, Source]) -> None:
    documentation, prose = sources
    assert list_titles(Searcher([prose]), "how much vacation") == ["Annual leave"]
    assert list_titles(Searcher([documentation]), "how much leave") == []


def test_results_alternate_and_what_has_more_words_is_first(sources: tuple[Source, Source]) -> None:
    for both in (sources, sources[::-1]):
        assert list_titles(Searcher(both), "how many days of vacation in a year") == ["Annual leave", "shop.order"]
        assert list_titles(Searcher(both), "cancel the order of an item")[:3] == [
            "shop.cancel",
            "Canteen",
            "shop.order",
        ]


def test_documentation_alone_is_searched_as_before(sources: tuple[Source, Source]) -> None:
    alone = Searcher([sources[0]]).search("cancel the order of an item", 4)
    assert [result.section.title for result in alone.results] == ["shop.cancel", "shop.order"]
    assert [step.name for step in alone.trace] == ["bm25", "fusion", "prior (no vectors, no reranker)"]
    names = [result.section.title for result in Searcher(sources).search("shop.order").results]
    assert names == ["shop.order"]

"""Cutting: every section is verbatim at its place, nothing is lost, no sentence is divided, titles are unique."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.retrieval.cutting.headings import Mark
from model.retrieval.cutting.source_texts import SourceText, cut_document, cut_documents
from model.retrieval.sections import Section, hash_text
from tests.model.retrieval.conftest import BOOK, INV, SUM


def cut(
    text: str, kind: str = "", title: str = "A Book", max_chars: int = 200, marks: tuple[Mark, ...] = ()
) -> list[Section]:
    return cut_document(SourceText("d", text, "s", title, "u", "MIT", kind, "(a)", marks), max_chars)


LINES = st.sampled_from(
    ["", "", "Parameters", "----------", "x : int", "    One more.", "Args:", "    y: two", ":param z: three", "Words end here.",
     "And go on", ">>> f(1)", "Returns", "=======", "# Title", "```", "مرحبا. نعم", "* item", "\t\x1b[1m", "a.b(c)"]
)  # fmt: skip
TEXTS = st.lists(LINES, max_size=25).map("\n".join) | st.text(max_size=200)


@settings(max_examples=150)
@given(TEXTS, st.sampled_from(["function", "module", "class", ""]), st.integers(5, 400))
def test_sections_are_verbatim_in_order_and_lose_no_letter(text: str, kind: str, max_chars: int) -> None:
    sections = cut(text, kind, "a.b", max_chars)
    end = 0
    for section in sections:
        assert text[section.start : section.end] == section.text
        assert section.start >= end
        assert section.sha256 == hash_text(section.text)
        assert section.line_start == text.count("\n", 0, section.start) + 1
        assert section.line_end == section.line_start + section.text.count("\n")
        assert not set('[]"\n') & set(section.title)
        assert section.text.strip()
        end = section.end
    assert len({section.title for section in sections}) == len(sections)
    assert len({section.id for section in sections}) == len(sections)


def test_prose_is_complete_and_sentences_are_whole() -> None:
    text = "\n\n".join(" ".join(f"Sentence {k} of\nparagraph {n}, e.g. this." for k in range(n)) for n in range(1, 30))
    sections = cut(text)
    assert " ".join(" ".join(section.text.split()) for section in sections) == " ".join(text.split())
    assert all(len(section.text) <= 200 and section.text.endswith("this.") for section in sections)
    assert [section.title for section in sections[:2]] == ["A Book §1", "A Book §2"]


@pytest.mark.parametrize(
    "text", ["x" * 100_000, "x " * 50_000, "- y\n" * 30_000, "مرحبا " * 20_000, "字" * 100_000, "\n" * 10**5 + "a"]
)
def test_a_very_long_text_is_cut_in_linear_time(text: str) -> None:
    assert sum(len(section.text) for section in cut(text)) >= len(text.strip()) * 0.7


def test_a_symbol_gives_its_main_section_and_facets() -> None:
    sections = cut(f"a.b.total(a)\n\n{SUM}", "function", "a.b.total")
    assert [(section.title, section.kind, section.heading) for section in sections] == [
        ("a.b.total", "symbol", ()),
        ("a.b.total: parameters", "facet", ("Parameters",)),
        ("a.b.total: returns", "facet", ("Returns",)),
        ("a.b.total: examples", "facet", ("Examples",)),
    ]
    assert sections[0].text == "a.b.total(a)\n\nSum of array elements over a given axis."
    assert [section.signature for section in sections] == ["(a)", "", "", ""]
    assert [(section.name, section.facet) for section in sections[:2]] == [
        ("a.b.total", ""),
        ("a.b.total", "parameters"),
    ]
    assert [section.title for section in cut(f"x(a)\n\n{INV}", "function", "x")] == ["x", "x: parameters", "x: raises"]


def test_a_long_description_is_a_facet_of_a_function_and_sections_of_a_module() -> None:
    text = "m\n\n" + "\n\n".join(f"Paragraph {n} has some words to fill a line of it." * 4 for n in range(30))
    function, module = cut(text, "function", "m"), cut(text, "module", "m")
    assert [section.title for section in function] == ["m", "m: details"]
    assert {section.kind for section in module} == {"symbol", "guide"}
    assert len(module) > 10
    assert all(len(section.text) <= 300 for section in module[1:])


def test_headings_give_path_and_title() -> None:
    assert [(section.title, section.heading) for section in cut(BOOK, title="Handbook")] == [
        ("Handbook: Leave", ("Leave",)),
        ("Handbook: Parental leave", ("Leave", "Parental leave")),
        ("Handbook: Sick leave", ("Leave", "Sick leave")),
    ]
    rst = "Title\n=====\n\nOne.\n\nPart\n----\n\nTwo.\n\nPart\n----\n\nThree.\n"
    assert [section.title for section in cut(rst, title="Title")] == ["Title", "Title: Part", "Title: Part §2"]
    code = "Text.\n\n```\n# no heading\n```\n\n# Heading\n\nMore."
    assert [section.heading for section in cut(code)] == [(), ("Heading",)]


def test_the_marks_of_a_parser_count_in_the_place_of_headings() -> None:
    text = "First page.\nSecond page."
    first, second = cut(text, marks=(Mark(0, ("One",), 1), Mark(12, ("One", "Two"), 2)))
    assert (first.text, first.heading, first.page, first.title) == ("First page.", ("One",), 1, "A Book: One")
    assert (second.text, second.heading, second.page, second.line_start) == ("Second page.", ("One", "Two"), 2, 2)


def test_no_title_is_used_twice_in_a_corpus() -> None:
    docs = [
        SourceText("1", "f()\n\nOne.", "s", "a.f", "", "MIT", "function"),
        SourceText("2", "f()\n\nTwo.", "s", "a.f", "", "MIT", "function"),
        SourceText("3", "Words.", "s", "Notes", "", "MIT"),
        SourceText("4", "Other words.", "s", "Notes", "", "MIT"),
        SourceText("5", " \n ", "s", "Empty", "", "MIT"),
    ]
    titles = [[section.title for section in sections] for sections in cut_documents(docs, 200)]
    assert titles == [["a.f"], ["Notes"], ["Notes (2)"], []]


def test_a_document_without_a_title_is_named_by_its_first_words() -> None:
    assert cut('One "two" [three] four five six seven.', title="")[0].title == "One 'two' (three) four five six"

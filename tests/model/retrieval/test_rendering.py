"""Passages: one line of bounded length, quoted word by word."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.grounding.answers import list_pieces, parse_passages
from model.retrieval.cutting.source_texts import SourceText, cut_document
from model.retrieval.rendering import MAX_PASSAGE_CHARS, render_line, render_passage, shorten
from model.retrieval.sections import Section
from tests.model.retrieval.conftest import BOOK, INV, SUM


def cut(
    doc: str, signature: str = "(a, axis=None)", title: str = "m.total", kind: str = "function"
) -> dict[str, Section]:
    text = f"{title}{signature}\n\n{doc}" if kind else doc
    sections = cut_document(SourceText("d", text, "s", title, "", "MIT", kind, signature), 400)
    return {section.title: section for section in sections}


@pytest.mark.parametrize(
    ("title", "entry", "line"),
    [
        ("m.total", "", '[m.total] "Sum of array elements over a given axis." — total(a, axis=None)'),
        (
            "m.total: parameters",
            "",
            '[m.total: parameters] "a: array_like. Elements to sum." '
            "\"axis: None or int, optional. Axis along which a 'sum' is performed.\"",
        ),
        (
            "m.total: parameters",
            "axis",
            "[m.total: axis] \"axis: None or int, optional. Axis along which a 'sum' is performed.\"",
        ),
        ("m.total: returns", "", '[m.total: returns] "total: ndarray. An array with the axis removed."'),
        ("m.total: examples", "", '[m.total: examples] ">>> np.sum([1, 2]) ⏎ 3"'),
    ],
)
def test_a_symbol_and_its_facets(title: str, entry: str, line: str) -> None:
    assert render_line(cut(SUM)[title], entry) == line


def test_fields_of_google_and_sphinx() -> None:
    sections = cut(INV)
    assert (
        render_passage(sections["m.total: parameters"], "check")
        == '"check (bool): Whether to check it. Off by default."'
    )
    assert render_passage(sections["m.total: raises"]) == '"LinAlgError: If it is singular."'
    sphinx = cut("Text.\n\n:param a: One of them.\n:type a: int\n:returns: The sum.")
    assert render_passage(sphinx["m.total: parameters"]) == '"a: One of them."'
    assert render_passage(sphinx["m.total: returns"]) == '"The sum."'


def test_prose_is_quoted_without_its_heading() -> None:
    sections = cut(BOOK, title="Handbook", kind="")
    assert render_passage(sections["Handbook: Parental leave"]) == '"Parents have 30 weeks." Ask early.'


def test_a_sentence_without_a_full_stop_and_one_that_is_cut() -> None:
    assert render_passage(cut("Matrix norm\n\nMore of it.", "")["m.total"]) == '"Matrix norm" — More of it. — total'
    long = cut("This sentence " + "goes on and " * 90 + "ends.")["m.total"]
    assert not render_passage(long).startswith('"')
    assert "… — total(a" in render_passage(long)


LINES = [
    "Args:",
    '    x (int): one "two".',
    "",
    "",
    ":param y: z",
    "Notes",
    "-----",
    ">>> f()",
    "Words.",
    "\x1b[2J\u2028",
    "مرحبا",
]
DOCS = st.sampled_from([SUM, INV, BOOK]) | st.text() | st.lists(st.sampled_from(LINES)).map("\n".join)


@settings(max_examples=150)
@given(DOCS, st.sampled_from(["function", ""]), st.integers(40, 400))
def test_every_section_gives_one_line_of_bounded_length(doc: str, kind: str, max_chars: int) -> None:
    for section in cut(doc, kind=kind).values():
        passage = render_passage(section, max_chars=max_chars)
        assert 0 < len(passage) <= max_chars
        assert len(render_line(section).splitlines()) == 1
        assert not re.search(r"[\x00-\x1f\x7f-\x9f]", passage)


@pytest.mark.parametrize("doc", [SUM, INV])
def test_what_can_be_quoted_is_in_the_section_word_by_word(doc: str) -> None:
    for section in cut(doc).values():
        (shown,) = parse_passages(render_line(section))
        words = re.findall(r"\w+", f"{section.text} total{section.signature}")
        for piece in list_pieces(shown):
            wanted = iter(words)
            assert all(word in wanted for word in re.findall(r"\w+", piece)), piece


def test_a_very_long_section_is_rendered_from_its_beginning() -> None:
    section = cut("Word by word. " * 100_000)["m.total"]
    assert len(render_passage(section)) <= MAX_PASSAGE_CHARS


@given(st.text(min_size=1, max_size=60), st.integers(1, 40))
def test_shortened_texts_are_at_most_as_long_as_allowed(text: str, n: int) -> None:
    cut = shorten(text, n)
    assert len(cut) <= n
    assert cut == text or (cut.endswith("…") and text.startswith(cut[:-1]))

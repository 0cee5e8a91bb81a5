"""Citations: exact ranges of what is there; nothing for what is not."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.grounding.answers import Quote
from model.grounding.citations import find_words, format_place, verify_quote

TEXT = "Return the norm.\n\nParameters\n----------\naxis : int, optional\n    Axis to reduce.\n"


class Part(NamedTuple):
    text: str = TEXT
    title: str = "a.norm"
    doc_id: str = "doc-1"
    heading: tuple[str, ...] = ("a", "norm")
    start: int = 100
    page: int = 0
    line_start: int = 7
    line_end: int = 12
    url: str = "https://example.org/norm"
    license: str = "MIT"
    sha256: str = "ab" * 32
    signature: str = "norm(x, axis=None)"


def test_an_entry_is_cited_by_the_title_it_was_shown_under() -> None:
    citation = verify_quote(Quote("norm: axis", "axis: int, optional. Axis to reduce.", "a.norm: axis"), [Part()])
    assert citation is not None
    assert (citation.title, citation.heading) == ("a.norm: axis", ("a", "norm"))


def test_a_citation_names_the_exact_characters_and_lines() -> None:
    citation = verify_quote(Quote("norm", "Axis to reduce.", "a.norm"), [Part()])
    assert citation is not None
    assert TEXT[citation.start - 100 : citation.end - 100] == "Axis to reduce."
    assert (citation.line_start, citation.line_end, citation.sha256) == (12, 12, "ab" * 32)
    assert format_place(citation).startswith("a.norm › a › norm, line 12, characters ")
    assert citation.url in format_place(citation)


@pytest.mark.parametrize("quoted", ["axis: int, optional Axis to reduce.", "norm(x, axis=None)", "Return the no…"])
def test_rendered_pieces_are_verified(quoted: str) -> None:
    assert verify_quote(Quote("norm", quoted, "a.norm"), [Part()]) is not None


def test_entries_quoted_together_are_verified_one_by_one() -> None:
    both = verify_quote(Quote("n", 'Return the norm." "axis: int, optional', "a.norm"), [Part()])
    assert both is not None
    assert (both.start, both.line_start, both.line_end) == (100, 7, 11)
    assert verify_quote(Quote("n", 'Return the norm." "axis: float', "a.norm"), [Part()]) is None


@pytest.mark.parametrize(
    ("quoted", "title"),
    [
        ("Return the max.", "a.norm"),
        ("Return the nor", "a.norm"),
        ("the Return norm", "a.norm"),
        ("Return norm.", "a.norm"),
        ("", "a.norm"),
        ("…", "a.norm"),
    ],
)
def test_what_is_not_there_is_not_cited(quoted: str, title: str) -> None:
    assert verify_quote(Quote("norm", quoted, title), [Part()]) is None


@given(st.text("ab .,\n", min_size=1, max_size=60), st.data())
def test_any_run_of_whole_words_is_found(text: str, data: st.DataObject) -> None:
    words = text.split()
    if not words:
        return
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    quoted = " ".join(words[first : last + 1])
    span = find_words(quoted, text)
    assert span is not None
    shown = [word.strip(".,") for word in text[slice(*span)].replace(".", " ").replace(",", " ").split()]
    assert shown == quoted.replace(".", " ").replace(",", " ").split()

"""Fields of docstrings: one name whatever the convention; the parts cover the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.retrieval.cutting.docstring_fields import find_parts

LINES = st.lists(
    st.sampled_from(
        ["", "Text.", "Args:", "    x: y", ":param x: y", ":return: z", "Notes", "-----", ">>> 1", "    more"]
    ),
    max_size=20,
).map("\n".join)


@given(LINES | st.text())
def test_the_parts_cover_the_text(text: str) -> None:
    parts = find_parts(text)
    assert "".join(text[part.start : part.end] for part in parts) == text
    assert all(part.start <= part.end for part in parts)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Text.\n\nParameters\n----------\nx : int\n\nSee Also\n--------\ny", ["", "parameters", "see also"]),
        ("Text.\n\nExamples\n========\n\n>>> 1", ["", "examples"]),
        ("Text.\n\nArgs:\n    x: y\n\nReturns:\n    z\n\nMore text.", ["", "parameters", "returns", "details"]),
        ("Text.\n\nKeyword args:\n    x (int): y\nExample::\n\n    >>> 1", ["", "other parameters", "examples"]),
        (
            "Text.\n\n:param x: y\n  more of y\n:type x: int\n:returns: z\n:rtype: int\n:raises E: if",
            ["", "parameters", "returns", "raises"],
        ),
        ("Text.\n\n:param x: y\n\nAfter.", ["", "parameters", "details"]),
        ("Text.\n\n>>> f(1)\n2\n\n>>> f(2)\n\nAfter.", ["", "examples", "details"]),
        ("Text.\n\nReturns: the sum.", ["", "returns"]),
        ("Text.\n\nReturns:\nnot indented", [""]),
        ("Text.\n\nOptimization\n------------\nWords.", ["", "optimization"]),
        ("For example:\n    x\n\nArguments are words: here.", [""]),
        ("Text: Args:\n    x", [""]),
        ("", [""]),
    ],
)
def test_the_names_of_the_parts(text: str, names: list[str]) -> None:
    assert [part.name for part in find_parts(text)] == names

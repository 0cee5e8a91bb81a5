"""Mentions: names as texts spell them, each spelling once a document, not in a symbol's own."""

from __future__ import annotations

from pipeline.index.mentions import MAX_MEANINGS, count_names, resolve_mentions

TITLES = [
    "numpy.sum",
    "pandas.DataFrame.head",
    "print",
    "a.norm",
    *(f"m{n}.Class.run" for n in range(MAX_MEANINGS + 1)),
]


def count(*texts: tuple[str, str]) -> dict[str, int]:
    titles, contents = zip(*texts, strict=True)
    return resolve_mentions(count_names(titles, contents), TITLES)


def test_names_aliases_tails_and_calls_are_mentions() -> None:
    text = "Like numpy.sum, see `np.sum(x)` and DataFrame.head; print(x) and reprint(x)."
    assert count(("A Book", text)) == {"numpy.sum": 2, "pandas.DataFrame.head": 1, "print": 1}


def test_a_spelling_counts_once_a_document_and_not_in_its_own() -> None:
    assert count(("numpy.sum", "numpy.sum(a)\n\nnumpy.sum is numpy.sum.")) == {}
    assert count(("x", "numpy.sum numpy.sum"), ("y", "numpy.sum.")) == {"numpy.sum": 2}


def test_what_has_many_meanings_is_no_mention() -> None:
    assert count(("A Book", "Class.run and norm are words; m1.Class.run is a name.")) == {"m1.Class.run": 1}

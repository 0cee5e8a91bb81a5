"""Names and titles: aliases, ends of titles, typos, facets."""

from __future__ import annotations

import pytest

from model.grounding.matching import (
    EXACT,
    OTHER,
    SIMILAR,
    TAIL,
    is_identifier,
    measure_closeness,
    split_facet,
    split_queries,
)


@pytest.mark.parametrize(
    ("title", "name", "closeness"),
    [
        ("numpy.linalg.norm", "numpy.linalg.norm", EXACT),
        ("numpy.linalg.norm", "np.linalg.norm", EXACT),
        ("numpy.linalg.norm", "linalg.norm", EXACT),
        ("numpy.linalg.norm", "Norm", EXACT),
        ("numpy.linalg.norm: axis", "norm: axis", EXACT),
        ("scipy.linalg.norm", "numpy.linalg.norm", TAIL),
        ("numpy.linalg.norm", "numpy.linalg.nrom", SIMILAR),
        ("numpy.min", "numpy.sum", OTHER),
    ],
)
def test_closeness(title: str, name: str, closeness: int) -> None:
    assert measure_closeness(title, name) == closeness


def test_facets_belong_to_names() -> None:
    assert split_facet("numpy.sum: axis") == ("numpy.sum", "axis")
    assert split_facet("How to: sort") == ("How to: sort", "")
    assert split_facet("numpy.sum") == ("numpy.sum", "")
    assert split_queries("a; b: c") == ["a", "b: c"]


def test_identifiers_look_unlike_words() -> None:
    assert all(map(is_identifier, ["a.b", "read_csv", "DataFrame", "log10", "_x"]))
    assert not any(map(is_identifier, ["norm", "Counter", "sort list", "2024", "a.", ""]))

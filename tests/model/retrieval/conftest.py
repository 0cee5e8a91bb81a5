"""Fixtures: a small segment with the cases that names, facets and words have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from model.retrieval.cutting.source_texts import SourceText, cut_documents
from model.retrieval.segment import Segment, write_segment

SUM = """Sum of array elements over a given axis.

Parameters
----------
a : array_like
    Elements to sum.
axis : None or int, optional
    Axis along which a "sum" is performed.

Returns
-------
total : ndarray
    An array with the axis removed.

Examples
--------
>>> np.sum([1, 2])
3
"""
INV = """Compute the inverse of a matrix.

Args:
    a (array): Square matrix to be inverted.
    check (bool): Whether to check it.
        Off by default.

Raises:
    LinAlgError: If it is singular.
"""
SYMBOLS = [  # title, kind, signature, docstring
    ("numpy", "module", "", "Provides arrays."),
    ("numpy.sum", "function", "(a, axis=None)", SUM),
    ("numpy.prod", "function", "(a, axis=None)", "Product of array elements."),
    ("numpy.linalg.norm", "function", "(x, ord=None)", "Matrix or vector norm."),
    ("numpy.linalg.inv", "function", "(a)", "Compute the (multiplicative) inverse of an array."),
    ("scipy.linalg.norm", "function", "(a)", "Matrix or vector norm, with checks."),
    ("scipy.linalg.inv", "function", "(a, check=False)", INV),
    ("pandas.DataFrame", "class", "(data)", "Two-dimensional table."),
    ("pandas.core.generic.NDFrame", "class", "(data)", "Base of tables."),
    ("pandas.core.generic.NDFrame.head", "method", "(n=5)", "Return the first rows."),
    ("pandas.read_csv", "function", "(path)", "Read a comma-separated values (csv) file into a DataFrame."),
    (
        "torch.nn.Linear",
        "class",
        "(in_features)",
        "Applies a linear\ntransformation.\n\n:param in_features: size of input",
    ),
    ("json.dumps", "function", "(obj)", "Serialize an object to a string."),
    ("print", "function", "(*args)", "Print values to a stream."),
]
BOOK = (
    "# Leave\n\nEvery employee has leave.\n\n## Parental leave\n\nParents have 30 weeks. Ask early.\n\n"
    "## Sick leave\n\nCall us.\n"
)


def make_docs(symbols: Iterable[tuple[str, str, str, str]] = SYMBOLS) -> list[SourceText]:
    return [
        SourceText(f"{n:02}", f"{title}{signature}\n\n{doc}", "python_docs/x", title, "", "MIT", kind, signature)
        for n, (title, kind, signature, doc) in enumerate(symbols)
    ]


def make_segment(
    folder: Path,
    docs: Sequence[SourceText],
    aliases: Mapping[str, str] | None = None,
    bases: Mapping[str, Sequence[str]] | None = None,
) -> Segment:
    folder.mkdir(parents=True, exist_ok=True)
    write_segment(folder, [section for sections in cut_documents(docs, 1_000) for section in sections], aliases, bases)
    return Segment.open(folder)


@pytest.fixture(scope="session")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    book = SourceText("99", BOOK, "handbook", "Handbook", "https://example.org/handbook", "CC0-1.0")
    return make_segment(
        tmp_path_factory.mktemp("segment"),
        [*make_docs(), book],
        {"numpy._core.fromnumeric.sum": "numpy.sum"},
        {"pandas.DataFrame": ["pandas.core.generic.NDFrame"]},
    )

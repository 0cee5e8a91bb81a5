"""Search: names before words, and no query can do harm."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assistant.knowledge.lexical import MAX_PASSAGES, NOTHING_FOUND, Passages
from assistant.tools.toolbox import make_tools
from tests.assistant.conftest import NORM, ROWS, write_passages


@pytest.fixture(scope="module")
def passages(tmp_path_factory: pytest.TempPathFactory) -> Passages:
    return Passages(write_passages(tmp_path_factory.mktemp("passages") / "passages.sqlite"))


def find_titles(passages: Passages, query: str) -> list[str]:
    return [passage.title for passage in passages.find(query)]


def test_the_exact_title_comes_first_and_each_passage_is_one_line(passages: Passages) -> None:
    first, *others = passages.search_docs("numpy.linalg.norm").splitlines()
    assert first == f"[numpy.linalg.norm] {NORM}"
    assert len(others) < MAX_PASSAGES
    assert passages.search_docs("torch.nn.Linear").splitlines()[0].endswith("a linear transformation.")


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("linalg.inv", "numpy.linalg.inv"),
        ("inv", "numpy.linalg.inv"),
        ("np.linalg.inv", "numpy.linalg.inv"),
        ("scipy.norm", "scipy.linalg.norm"),
        ("NumPy.Linalg.Inv", "numpy.linalg.inv"),
        ("numpy.linalg.inv()", "numpy.linalg.inv"),
        ("`numpy.linalg.inv`", "numpy.linalg.inv"),
        ("what does nn.Linear do?", "torch.nn.Linear"),
        ("inverse of a matrix", "numpy.linalg.inv"),
        ("transformation", "torch.nn.Linear"),
        ("odd_%title", "odd_%title"),
        ("np.linalg.norm", "numpy.linalg.norm"),
        ("sp.linalg.norm", "scipy.linalg.norm"),
        ("nn.Linear()", "torch.nn.Linear"),
        ("read_csv", "pandas.read_csv"),
        ("reading csv files", "pandas.read_csv"),
        ("can you please compute the inverse of it", "numpy.linalg.inv"),
    ],
)
def test_names_tails_and_words(passages: Passages, query: str, first: str) -> None:
    assert find_titles(passages, query)[0] == first


def test_both_passages_of_one_name_are_returned(passages: Passages) -> None:
    assert set(find_titles(passages, "norm")) == {"numpy.linalg.norm", "scipy.linalg.norm"}


@pytest.mark.parametrize("query", ["", " ", "...", "xyzzy", "%", "_", '"', "qqq"])
def test_no_passage_is_reported_as_text(passages: Passages, query: str) -> None:
    assert passages.search_docs(query) == NOTHING_FOUND


@pytest.mark.parametrize(
    "query",
    [
        "norm_of_x \u19b0x \u19c5",
        "'; DROP TABLE passages; --",
        '" OR 1=1 --',
        "title:norm",
        "NEAR(matrix norm, 2)",
        "norm AND OR NOT",
        "norm*",
        "^norm",
        "{title passage}: norm",
        "(((((",
        '"""',
        "matrix\0norm",
        "\ud800norm",
        "norm " * 50_000,
        "a." * 50_000,
        "%" * 300,
        "\\",
    ],
)
def test_hostile_queries_are_treated_as_words(passages: Passages, query: str) -> None:
    before = passages.path.read_bytes()
    started_at = time.perf_counter()
    answer = passages.search_docs(query)
    assert time.perf_counter() - started_at < 1
    assert not answer.startswith("error")
    assert passages.path.read_bytes() == before
    assert passages.count() == len(ROWS)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text() | st.text('"*^:(){}%_\\ .-+ANDORNOTEnorm'))
def test_any_query_returns_at_most_two_passages_and_never_fails(passages: Passages, query: str) -> None:
    lines = passages.search_docs(query).splitlines()
    assert 1 <= len(lines) <= MAX_PASSAGES
    assert lines == [NOTHING_FOUND] or all(line.startswith("[") for line in lines)


def test_a_missing_file_has_no_passages_and_is_not_created(tmp_path: Path) -> None:
    assert Passages(tmp_path / "passages.sqlite").search_docs("norm") == NOTHING_FOUND
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_an_error_text(tmp_path: Path) -> None:
    path = tmp_path / "passages.sqlite"
    path.write_bytes(b"this is not a database, and long enough to be inspected" * 20)
    assert Passages(path).search_docs("norm").startswith("error: ")


def test_the_database_is_read_only(passages: Passages) -> None:
    connection = passages._connect()
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("DELETE FROM passages")
    connection.close()


def test_an_index_of_an_earlier_version_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = write_passages(tmp_path / "passages.sqlite")
    make_tools(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE passages RENAME COLUMN license TO licence")
    connection.close()
    expected = r"earlier version.*found id, .*, licence; run .*make run.*python -m pipeline\.registry pull"
    with pytest.raises(ValueError, match=expected):
        make_tools(tmp_path)

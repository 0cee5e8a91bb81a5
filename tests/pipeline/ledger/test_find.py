"""Look-ups by id in sorted files equal a filter over all rows; other queries equal Python's `in`."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger import find as find_module
from pipeline.ledger.find import find_documents, read_columns
from pipeline.storage.tables import DOCS, ShardWriter, list_shards, read_docs, read_rows_between, write_table
from tests.pipeline.ledger.made import an_id, doc, write_corpus

NUMBERS = range(1, 400)


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write some forty files of a few documents each; return their folder."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), [doc(number) for number in NUMBERS]).collected
    assert len(list_shards(folder)) > 40
    return folder


@settings(max_examples=60, deadline=None)
@given(st.text("0123456789abcdef", max_size=6), st.text("0123456789abcdef", max_size=6))
def test_a_range_of_ids_is_a_filter(docs: Path, low: str, high: str) -> None:
    whole = read_docs(docs).to_pylist()
    found = read_rows_between(list_shards(docs), low, high).to_pylist()
    assert found == [row for row in whole if low <= row["id"] < high]


def test_no_row_group_with_the_id_is_skipped(tmp_path: Path) -> None:
    ids = sorted(an_id(number) for number in range(40_000))
    write_table(tmp_path / "ledger.parquet", pa.table({"id": ids, "place": list(range(len(ids)))}))
    for place in (0, 1, 16_383, 16_384, 16_385, 32_768, 39_999):
        [row] = read_rows_between([tmp_path / "ledger.parquet"], ids[place], ids[place] + "g").to_pylist()
        assert row["place"] == place
    assert read_rows_between([tmp_path / "ledger.parquet"], "g", "h", ["id"]).num_rows == 0
    twice = pa.table({"id": [an_id(1)] * 20_000, "place": list(range(20_000))})
    write_table(tmp_path / "twice.parquet", twice)
    assert read_rows_between([tmp_path / "twice.parquet"], an_id(1), an_id(1) + "g").num_rows == 20_000


def test_an_empty_corpus_has_no_matches(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, DOCS):
        pass
    assert find_documents(tmp_path, an_id(1)) == []
    assert find_documents(tmp_path, "words") == []
    assert read_columns(tmp_path, [an_id(1)], ["id", "title"]).height == 0


@settings(max_examples=30, deadline=None)
@given(wanted=st.sets(st.sampled_from(range(1, 500))))
def test_few_ids_are_looked_up_and_many_are_joined(docs: Path, wanted: set[int]) -> None:
    ids = sorted(an_id(number) for number in wanted)
    expected = sorted(an_id(number) for number in wanted if number in NUMBERS)
    for few in (0, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(find_module, "FEW", few)
            assert read_columns(docs, ids, ["id", "title"])["id"].to_list() == expected


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("Page 7", {7}),  # the whole title, before those that start with it
        ("AGE 39", {39, *range(390, 400)}),  # part of a title
        ("https://site3.example.org/3", {3}),  # the whole URL
        ("site3.example.org/3", {3, *(n for n in NUMBERS if n % 5 == 3 and str(n).startswith("3"))}),
        ('{"row":17}', {17}),
        ('row":39', {39, *range(390, 400)}),
        ("Text 12.", {12}),
        ("(.*", set()),  # not a regular expression
    ],
)
def test_a_query_finds_the_documents_it_means(docs: Path, query: str, numbers: set[int]) -> None:
    assert {row["id"] for row in find_documents(docs, query)} == {an_id(number) for number in numbers}


@pytest.mark.parametrize("n", [6, 12, 31, 32])
def test_an_id_is_found_by_its_first_digits(docs: Path, n: int) -> None:
    for number in (1, 200, 399):
        assert [row["id"] for row in find_documents(docs, an_id(number)[:n].upper())] == [an_id(number)]


def test_the_number_of_matches_is_bounded(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find_module, "MAX_FOUND", 5)
    assert len(find_documents(docs, "Page")) == 5
    assert len(find_documents(docs, "Text")) == 5

"""Looking up by id in sorted files gives what a filter over everything gives; the other questions, what Python's `in` gives."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger import find as finding
from pipeline.ledger.find import by_ids, find
from pipeline.storage.tables import DOCS, ShardWriter, list_shards, read_docs, read_rows_between, write_table
from tests.pipeline.ledger.made import an_id, doc, write_corpus

NUMBERS = range(1, 400)


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some forty files of a few documents."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), [doc(number) for number in NUMBERS]).collected
    assert len(list_shards(folder)) > 40
    return folder


@settings(max_examples=60, deadline=None)
@given(st.text("0123456789abcdef", max_size=6), st.text("0123456789abcdef", max_size=6))
def test_a_range_of_ids_is_a_filter(docs: Path, low: str, high: str) -> None:
    whole = read_docs(docs).to_pylist()
    found = read_rows_between(list_shards(docs), low, high).to_pylist()
    assert found == [row for row in whole if low <= row["id"] < high]


def test_row_groups_are_skipped_but_none_too_many(tmp_path: Path) -> None:
    ids = sorted(an_id(number) for number in range(40_000))
    write_table(tmp_path / "ledger.parquet", pa.table({"id": ids, "place": list(range(len(ids)))}))
    for place in (0, 1, 16_383, 16_384, 16_385, 32_768, 39_999):
        [row] = read_rows_between([tmp_path / "ledger.parquet"], ids[place], ids[place] + "g").to_pylist()
        assert row["place"] == place
    assert read_rows_between([tmp_path / "ledger.parquet"], "g", "h", ["id"]).num_rows == 0
    twice = pa.table({"id": [an_id(1)] * 20_000, "place": list(range(20_000))})
    write_table(tmp_path / "twice.parquet", twice)
    assert read_rows_between([tmp_path / "twice.parquet"], an_id(1), an_id(1) + "g").num_rows == 20_000


def test_an_empty_corpus_has_nothing(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, DOCS):
        pass
    assert find(tmp_path, an_id(1)) == []
    assert find(tmp_path, "words") == []
    assert by_ids(tmp_path, [an_id(1)], ["id", "title"]).height == 0


@settings(max_examples=30, deadline=None)
@given(wanted=st.sets(st.sampled_from(range(1, 500))))
def test_few_ids_are_looked_up_and_many_are_joined(docs: Path, wanted: set[int]) -> None:
    ids = sorted(an_id(number) for number in wanted)
    expected = sorted(an_id(number) for number in wanted if number in NUMBERS)
    for few in (0, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(finding, "FEW", few)
            assert by_ids(docs, ids, ["id", "title"])["id"].to_list() == expected


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("Page 7", {7}),  # the whole title, before those that begin so
        ("AGE 39", {39, *range(390, 400)}),  # part of a title
        ("https://site3.example.org/3", {3}),  # the whole URL
        ("site3.example.org/3", {3, *(n for n in NUMBERS if n % 5 == 3 and str(n).startswith("3"))}),
        ('{"row":17}', {17}),
        ('row":39', {39, *range(390, 400)}),
        ("Text 12.", {12}),
        ("(.*", set()),  # no pattern
    ],
)
def test_what_is_typed_is_found(docs: Path, query: str, numbers: set[int]) -> None:
    assert {row["id"] for row in find(docs, query)} == {an_id(number) for number in numbers}


@pytest.mark.parametrize("n", [6, 12, 31, 32])
def test_an_id_is_found_by_its_first_digits(docs: Path, n: int) -> None:
    for number in (1, 200, 399):
        assert [row["id"] for row in find(docs, an_id(number)[:n].upper())] == [an_id(number)]


def test_common_words_are_bounded(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MAX_FOUND", 5)
    assert len(find(docs, "Page")) == 5
    assert len(find(docs, "Text")) == 5

"""`diff` finds exactly the documents by which two corpora differ, and the reasons."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.ledger.diff import compare_snapshots, find_differing_ids
from pipeline.ledger.show import make_diff_json, show_diff
from tests.pipeline.ledger.made import an_id, doc, dropped, write_corpus

DOCS = [doc(number) for number in range(1, 40)]


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(1, 60)), st.sets(st.integers(1, 60)), st.integers(1, 7))
def test_differing_ids_are_the_difference_of_sets(
    tmp_path_factory: pytest.TempPathFactory, left: set[int], right: set[int], n_ranges: int
) -> None:
    root = tmp_path_factory.mktemp("sides")
    a, b = (write_corpus(root / name, [doc(n) for n in side]) for name, side in (("a", left), ("b", right)))
    only_a, only_b = find_differing_ids(a.final, b.final, n_ranges)
    assert sorted(only_a) == sorted(an_id(n) for n in left - right)
    assert sorted(only_b) == sorted(an_id(n) for n in right - left)


@pytest.fixture
def result(tmp_path: Path):
    kept = [row for row in DOCS if row["id"] != an_id(5)]
    changed = {**doc(6), "id": an_id(600), "text": "Another text."}
    after = [*(row for row in kept if row["id"] not in (an_id(6), an_id(7))), changed, doc(50)]
    a = write_corpus(
        tmp_path / "a",
        DOCS,
        [
            dropped(an_id(1), "dedupe", "near_duplicate", an_id(2)),
            dropped(an_id(3), "filter", "language"),
            dropped(an_id(20), "filter", "pii_email", decision="changed"),
        ],
        name="one",
    )
    b = write_corpus(
        tmp_path / "b",
        [*(row for row in after if row["id"] != an_id(12)), doc(5), doc(12, text="") | {"id": an_id(1200)}],
        [
            dropped(an_id(5), "download", "takedown", f"id:{an_id(5)}"),
            dropped(an_id(8), "dedupe", "exact_duplicate", an_id(9)),
            dropped(an_id(3), "filter", "language"),
            dropped(an_id(10), "filter", "min_words"),
            dropped(an_id(1200), "filter", "min_words"),
            dropped(an_id(21), "filter", "pii_email", decision="changed"),
        ],
        name="two",
    )
    return compare_snapshots(a, b, range_docs=10)


def rules(frame) -> dict[str, tuple[str, str]]:
    return {row["id"]: (row["stage"], row["reason"]) for row in frame.to_dicts()}


def test_each_document_has_the_rule_behind_the_difference(result) -> None:
    assert rules(result.lost) == {
        an_id(5): ("download", "takedown"),
        an_id(7): ("download", "no longer collected"),
        an_id(8): ("dedupe", "exact_duplicate"),
        an_id(10): ("filter", "min_words"),
        an_id(12): ("filter", "min_words (of another text at this location)"),
    }
    assert rules(result.added) == {an_id(1): ("dedupe", "near_duplicate"), an_id(50): ("download", "newly collected")}
    assert rules(result.rewritten) == {an_id(6): ("download", "another text")}
    assert result.rewritten["new_id"].to_list() == [an_id(600)]
    assert rules(result.edited) == {an_id(20): ("filter", "pii_email"), an_id(21): ("filter", "pii_email")}


def test_the_counts_reconcile(result) -> None:
    assert result.n_before == result.n_both + result.lost.height + result.rewritten.height
    assert result.n_after == result.n_both + result.added.height + result.rewritten.height


def test_a_diff_is_printed_as_a_table_and_as_json(result, capsys: pytest.CaptureFixture[str]) -> None:
    show_diff(result, 5)
    output = capsys.readouterr().out
    assert "one → two: 37 → 34 documents, 31 in both" in output
    assert an_id(600) not in output
    assert "newly collected" in output
    values = make_diff_json(result, 1)
    assert values["lost"]["by_rule"]["filter: min_words"] == 1
    assert values["added"]["by_source"] == {"text/pages": 2}
    assert len(values["lost"]["examples"]) == 1


def test_a_corpus_does_not_differ_from_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write_corpus(tmp_path / "a", DOCS)
    show_diff(compare_snapshots(a, a), 3)
    assert "the same documents" in capsys.readouterr().out

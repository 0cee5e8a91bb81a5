"""Scores by item are what evaluate wrote: without baselines, without parts, in the direction that the figure tells."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.evaluate.item_scores import ItemScore, make_item_table, summarize_items
from pipeline.frame.errors import UserError
from pipeline.registry.paired.item_table import read_scores, read_texts
from pipeline.storage.tables import write_table

SCORES = [
    ItemScore("bpb", "a", 7.0, size=5.0),
    ItemScore("bpb", "b", 9.0, group="g", size=4.0),
    ItemScore("ngram_bpb", "a", 1.0, is_baseline=True),
    ItemScore("obeyed", "x", 1.0, prompt="Do it", answer="Done", expected="no"),
    ItemScore("bpb_numpy", "a", 7.0, size=5.0),
]
FIGURES = [{"metric": "bpb", "is_lower_better": True}, {"metric": "obeyed", "is_lower_better": True}]


def test_scores_are_those_of_evaluate(tmp_path: Path) -> None:
    assert read_scores(tmp_path) == {}
    write_table(tmp_path / "items.parquet", make_item_table("task", SCORES))
    (tmp_path / "figures.json").write_text(json.dumps(FIGURES))
    scores = read_scores(tmp_path)
    assert list(scores) == ["bpb", "obeyed"]
    assert scores["bpb"].value == pytest.approx(summarize_items(SCORES)["bpb"].value)
    assert scores["bpb"].groups.tolist() == ["a", "g"], "an item without a group is one of its own"
    assert all(each.is_lower_better for each in scores.values())
    (texts,) = read_texts(tmp_path).values()
    assert texts == ("x", "Do it", "Done", "no")
    (tmp_path / "figures.json").unlink()
    assert list(read_scores(tmp_path)) == ["bpb", "obeyed", "bpb_numpy"]


def test_items_are_the_same_if_their_texts_are(tmp_path: Path) -> None:
    """Ids of made items are positions; texts that a metric has twice need the id too."""

    def read_keys(name: str, *items: ItemScore) -> list[str]:
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "items.parquet", make_item_table("task", items))
        return read_scores(tmp_path / name)["m"].ids.tolist()

    first = read_keys("a", ItemScore("m", "0", 1.0, prompt="p"), ItemScore("m", "1", 1.0, prompt="q"))
    shifted = read_keys("b", ItemScore("m", "0", 1.0, prompt="new"), ItemScore("m", "1", 0.0, prompt="p", answer="x"))
    assert first[0] == shifted[1]
    assert first[1] not in shifted
    twice = read_keys("c", ItemScore("m", "0", 1.0, prompt="p"), ItemScore("m", "1", 0.0, prompt="p"))
    assert len(set(twice)) == 2
    assert read_keys("d", ItemScore("m", "0", 1.0, prompt="p", expected="other")) != first[:1]
    assert read_keys("e", ItemScore("m", "0", 1.0)) == ["0"]


def test_another_table_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "items.parquet", pa.table({"metric": ["a"], "id": ["b"]}))
    with pytest.raises(UserError, match=r"items\.parquet: not a table of items\n.*group, score, size, is_baseline"):
        read_scores(tmp_path)

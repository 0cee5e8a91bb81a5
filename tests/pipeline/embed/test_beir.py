from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.embed.beir import main, read_set, score_ranking
from pipeline.frame.errors import UserError

SUBJECTS = ["bridge", "engine", "violin", "harbor", "glacier", "printer", "orchard", "compass", "lantern", "tunnel"]


def write_set(folder: Path) -> Path:
    """Write a set of our own: each document is about one subject, and each question asks for one of them."""
    (folder / "qrels").mkdir()
    documents = [
        {
            "_id": f"d{i}",
            "title": f"The {name}",
            "text": f"A {name} is described here. Its {name} parts are old and heavy.",
        }
        for i, name in enumerate(SUBJECTS)
    ]
    queries = [{"_id": f"q{i}", "text": f"what is known about the {name}?"} for i, name in enumerate(SUBJECTS)]
    for name, rows in {"corpus": documents, "queries": queries}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = [f"q{i}\td{i}\t1" for i in range(len(SUBJECTS))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return folder


def test_a_set_is_read(tmp_path: Path) -> None:
    found = read_set(write_set(tmp_path))
    assert len(found.documents) == len(found.queries) == len(SUBJECTS)
    assert found.grades["q3"] == {"d3": 1}
    assert not found.left_out


def test_unusable_rows_are_counted_by_reason(tmp_path: Path) -> None:
    write_set(tmp_path)
    rows = [{"text": "no id"}, {"_id": "d0", "text": "again"}, {"_id": "dx", "text": " "}, [1]]
    with (tmp_path / "corpus.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    with (tmp_path / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\tnowhere\t1\nq1\td1\tvery\nq1\n")
    found = read_set(tmp_path)
    assert found.left_out == {
        "corpus.jsonl: no _id": 2,
        "corpus.jsonl: repeated _id": 1,
        "corpus.jsonl: no text": 1,
        "test.tsv: unknown id": 1,
        "test.tsv: no relevance": 2,
    }
    assert len(found.documents) == len(SUBJECTS)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    write_set(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        read_set(tmp_path)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    write_set(tmp_path)
    (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=name):
        read_set(tmp_path)


def test_broken_json_is_refused_with_its_line(tmp_path: Path) -> None:
    (write_set(tmp_path) / "queries.jsonl").write_text('{"_id": "q0"\n')
    with pytest.raises(UserError, match=r"queries\.jsonl:1: not JSON"):
        read_set(tmp_path)


def test_scores_of_a_ranking() -> None:
    assert score_ranking(["a", "b"], {"a": 1, "b": 1}) == pytest.approx((1, 1, 1))
    ndcg, recall, reciprocal = score_ranking(["x", "a"], {"a": 2, "b": 1})
    assert (recall, reciprocal) == (0.5, 0.5)
    assert ndcg == pytest.approx((2 / 1.58496) / (2 + 1 / 1.58496), rel=1e-4)


def test_the_command_measures_every_ranking(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(write_set(tmp_path)), "--params", "docs/recipes/smoke.yaml"]) == 0
    printed = capsys.readouterr().out
    assert all(step in printed for step in ("bm25", "vectors", "hybrid", "reranked", "prose"))


def test_the_command_names_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "corpus.jsonl" in capsys.readouterr().err

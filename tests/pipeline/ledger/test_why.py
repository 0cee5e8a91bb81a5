"""`why` finds a document by any kind of query, and prints its whole history."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.ledger.__main__ import main
from pipeline.ledger.life import read_life
from pipeline.ledger.places import DataSnapshot, find_stage_folders, list_text_stages
from pipeline.storage.tables import DOCS, TOKEN_DOCS, ShardWriter, read_table, write_ledger, write_table
from tests.conftest import ROOT

IDS = {
    name: f"{i:032x}" for i, name in enumerate(("kept", "copy", "foreign", "twin_one", "twin_two"), start=0xABCDEF00)
}


def doc(name: str, text: str) -> dict[str, str]:
    locator = f'{{"file":"{name}.py","line":7}}'
    title = f"package.{name.replace('_', '.')}" if name.startswith("twin") else f"package.{name}"
    return {
        "id": IDS[name],
        "text": text,
        "source": "docs/package",
        "locator": locator,
        "title": title,
        "url": "",
        "license": "MIT",
        "is_search_only": False,
    }


def dropped(name: str, stage: str, reason: str, value: float, threshold: float, other: str = "") -> dict[str, object]:
    other_id = IDS.get(other, "")
    return {
        "id": IDS[name],
        "stage": stage,
        "decision": "dropped",
        "reason": reason,
        "value": value,
        "threshold": threshold,
        "other_id": other_id,
    }


@pytest.fixture
def data(tmp_path: Path) -> Path:
    texts = {
        "kept": "A kept text.",
        "copy": "A copied text.",
        "foreign": "Ein fremder Text.",
        "twin_one": "Left.",
        "twin_two": "Right.",
    }
    rows = [doc(name, text) for name, text in texts.items()]
    for folder in ("download", "dedupe", "filter"):
        with ShardWriter(tmp_path / folder) as writer:
            writer.write(pa.Table.from_pylist(rows, schema=DOCS))
    write_ledger(tmp_path / "dedupe", [dropped("copy", "dedupe", "near_duplicate", 0.913, 0.8, "kept")])
    write_ledger(tmp_path / "filter", [dropped("foreign", "filter", "language", 0.0123, 0.65)])
    write_table(
        tmp_path / "filter" / "scores.parquet",
        pa.table({"id": list(IDS.values()), "language_score": [0.9, 0.9, 0.0123, 0.9, 0.9]}),
    )
    (tmp_path / "filter" / "rules.json").write_text(
        '[{"reason": "language", "score": "language_score", "side": "min", "threshold": 0.65}]'
    )
    (tmp_path / "shard").mkdir()
    row = {
        "id": IDS["kept"],
        "split": "train",
        "start": 1_000,
        "n_tokens": 7,
        "n_bytes": 12,
        "source": "",
        "license": "",
        "title": "",
    }
    write_table(tmp_path / "shard" / "docs.parquet", pa.Table.from_pylist([row], schema=TOKEN_DOCS))
    return tmp_path


def ask(data: Path, query: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["why", query, "--data", str(data)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("query", [IDS["kept"], "package.kept", "kept", "KEPT", "kept.py", "A kept text"])
def test_a_document_is_found_by_id_title_locator_and_text(
    query: str, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = ask(data, query, capsys)
    assert IDS["kept"] in output.splitlines()[0]
    assert "kept.py:7" in output
    assert "license MIT" in output
    assert "stands in for package.copy" in output
    assert "language_score" in output
    assert "at least 0.65" in output
    assert "tokens 1,000 to 1,006 of the train stream" in output


def test_a_duplicate_names_its_survivor(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ask(data, "package.copy", capsys)
    assert "near_duplicate: 0.913 > 0.8" in output
    assert "package.kept" in output
    assert "filter" not in output, "it was dropped before the filter"


def test_a_filtered_document_names_its_rule(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ask(data, "fremder", capsys)
    assert "language: 0.0123 < 0.65" in output
    assert "violated" in output
    assert "tokens" not in output


def test_an_item_of_an_evaluation_set_is_not_called_a_document(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leak = {**dropped("foreign", "filter", "contaminated", 19, 0), "other_id": "quiz:quiz.jsonl#1"}
    write_ledger(data / "filter", [leak])
    output = ask(data, "fremder", capsys)
    assert "contaminated: 19 > 0; shares words with quiz:quiz.jsonl#1" in output
    assert "stands in" not in output


def test_a_document_of_an_earlier_run_is_named_as_such(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier = "f" * 32
    write_ledger(data / "dedupe", [{**dropped("copy", "dedupe", "seen_before", 0.9, 0.8), "other_id": earlier}])
    assert f"seen_before: 0.9 > 0.8; {earlier}, kept by an earlier run" in ask(data, "package.copy", capsys)


def test_a_value_just_below_its_threshold_is_printed_with_enough_digits(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ledger(data / "filter", [dropped("foreign", "filter", "quality_classifier", 0.4999996, 0.5)])
    assert "quality_classifier: 0.4999996 < 0.5" in ask(data, "fremder", capsys)


def test_a_change_has_an_amount_and_no_threshold(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ledger(data / "dedupe", [{**dropped("kept", "dedupe", "lines_removed", 3, 20), "decision": "changed"}])
    output = ask(data, "package.kept", capsys)
    assert "lines_removed: 3\n" in output


def test_a_locator_without_lines_is_printed_as_it_is(tmp_path: Path) -> None:
    where = '{"file":"wiki.xml.bz2","page":662,"revision":7}'
    row = {**doc("kept", "Text."), "source": "wikipedia/wiki", "locator": where}
    with ShardWriter(tmp_path / "download") as writer:
        writer.write(pa.Table.from_pylist([row], schema=DOCS))
    found = read_life(DataSnapshot("here", {"download": tmp_path / "download"}), row)
    assert found[0].detail == f"wikipedia/wiki, {where}, license MIT"


def test_several_matches_are_listed_with_their_last_decision(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = ask(data, "twin", capsys)
    assert output.startswith("2 documents match")
    assert IDS["twin_one"] in output
    assert IDS["twin_two"] in output


def test_stages_that_have_not_run_are_reported(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "shard" / "docs.parquet").unlink()
    (data / "shard").rmdir()
    assert "not run yet" in ask(data, "package.kept", capsys)


def test_an_unknown_document_is_an_error_without_a_traceback(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["why", "nowhere to be found", "--data", str(data)]) == 1
    assert "no document for 'nowhere to be found'" in capsys.readouterr().err


def test_a_corrupt_file_is_an_error_without_a_traceback(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "download" / "docs-00000.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert main(["why", "package.kept", "--data", str(data)]) == 1
    assert "a data file is corrupt" in capsys.readouterr().err


def test_data_of_an_earlier_version_is_an_error_without_a_traceback(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data / "download" / "docs-00000.parquet"
    write_table(path, read_table(path).rename_columns({"license": "licence"}))
    assert main(["why", "package.kept", "--data", str(data)]) == 1
    assert "corrupt or of an earlier version\n  found: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_closed_pipe_is_not_an_error(data: Path) -> None:
    """`… | head -1`"""
    command = [sys.executable, "-m", "pipeline.ledger", "why", "package", "--data", str(data)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 0


def test_the_folders_are_those_of_the_graph(tmp_path: Path) -> None:
    graph = tmp_path / "dvc.yaml"
    graph.write_text(
        "stages:\n  shard: {cmd: x --docs c --out s, outs: [s]}\n  get: {cmd: x --out a/b, outs: [a/b]}\n"
        "  polish: {cmd: x --docs d --out c, outs: [c]}\n  other: {cmd: x --docs c --out o, outs: [o]}\n"
        "  dedupe: {cmd: x --docs a/b --out d, outs: [{d: {cache: true}}]}\n  pretrain: {cmd: x, outs: [e]}\n"
    )
    folders = find_stage_folders(graph, None)
    assert list(folders.items()) == [
        ("get", Path("a/b")),
        ("dedupe", Path("d")),
        ("polish", Path("c")),
        ("shard", Path("s")),
    ]
    assert find_stage_folders(graph, Path("x"))["shard"] == Path("x/shard")
    assert find_stage_folders(tmp_path / "none.yaml", None)["shard"] == Path("data/shard")


def test_the_text_stages_are_those_of_this_repository() -> None:
    assert tuple(find_stage_folders(ROOT / "dvc.yaml", None)) == list_text_stages()
    assert (list_text_stages()[0], list_text_stages()[-1]) == ("download", "shard")


def test_a_graph_that_was_named_and_does_not_exist_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["why", "words", "--dvc-file", str(tmp_path / "nosuch.yaml")]) == 1
    assert "nosuch.yaml: no such file" in capsys.readouterr().err


def test_a_duplicate_for_search_only_is_explained_up_to_the_shards(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {**dropped("copy", "dedupe", "search_only", 0.913, 0.8, "kept"), "decision": "changed"}
    write_ledger(data / "dedupe", [row])
    output = ask(data, "package.copy", capsys)
    assert "kept for search only, out of training text: similarity 0.913 > 0.8; package.kept" in output
    assert "in the index, not in training text" in output
    assert "stands in for package.copy" in ask(data, "package.kept", capsys)

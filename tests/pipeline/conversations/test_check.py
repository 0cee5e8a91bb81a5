"""`python -m pipeline.conversations`: what files contain and what a run has rejected, with nothing that a terminal would obey."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.conversations.__main__ import main
from pipeline.storage.tables import REJECTS, TableWriter
from tests.conftest import ROOT
from tests.pipeline.conversations.test_chats import make_row, write_rows


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())


def test_a_table_shows_formats_counts_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        make_row(1, "Yes.</s>"),
        {"instruction": "x", "output": "y"},
        "{",
        {"prompt": "\x1b[31m", "completion": "z"},
    ]
    write_rows(tmp_path / "chats" / "a.jsonl", rows)
    write_rows(tmp_path / "chats" / "b.jsonl", [{"\x1b[31mred": 1}])
    assert main(["check", "chats"]) == 1  # nothing of b can be used
    printed = capsys.readouterr()
    for part in (
        "chats/a.jsonl",
        "alpaca, prompt",
        "not_json, line 3",
        "control_character, line 4",
        "1 markers of other tokenizers removed",
        "not usable: 1 rows; line 1: unknown_format",
        r"\x1b[31mred",
    ):
        assert part in printed.out, printed.out
    assert "\x1b" not in printed.out
    assert "lengths are not checked" in printed.err


def test_json_has_one_object_per_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "a.jsonl", [make_row(1), make_row(1)])
    assert main(["check", "a.jsonl", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["n_conversations"], report["n_turns"], report["rejected"]) == (1, 2, {"duplicate": 1})


def test_formats_and_fields_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(tmp_path / "a.jsonl", [{"q": "x", "a": "y", "score": 1}])
    assert main(["check", "a.jsonl", "--columns", "user=q,assistant=a", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["formats"] == {"columns": 1}
    write_rows(tmp_path / "b.jsonl", [{**make_row(1), "score": 1}])
    assert main(["check", "b.jsonl"]) == 1
    assert main(["check", "b.jsonl", "--ignore", "score"]) == 0
    assert main(["check", "b.jsonl", "--columns", "user=q"]) == 1
    assert "name either messages, or user and assistant" in capsys.readouterr().err


def test_without_a_path_the_sources_of_params_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data" / "chats").mkdir(parents=True)
    assert main(["check"]) == 1
    assert "conversations.sources is empty" in capsys.readouterr().err
    write_rows(tmp_path / "data" / "chats" / "a.jsonl", [make_row(1)])
    text = (ROOT / "params.yaml").read_text()
    assert "  sources: []" in text
    (tmp_path / "params.yaml").write_text(
        text.replace("  sources: []", "  sources: [{name: a, path: a.jsonl, license: MIT}]")
    )
    assert main(["check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "a.jsonl"


def test_a_path_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere.jsonl"]) == 1
    assert "check: nowhere.jsonl is missing" in capsys.readouterr().err


def test_rejects_of_a_run_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rejects"]) == 1
    assert "run the stage conversations" in capsys.readouterr().err
    rows = [{"source": "a", "locator": f"a.jsonl:{n}", "reason": "too_long", "detail": "[b]9 tokens"} for n in range(3)]
    (tmp_path / "data" / "conversations").mkdir(parents=True)
    with TableWriter(tmp_path / "data" / "conversations" / "rejects.parquet", REJECTS) as table:
        table.write(pa.Table.from_pylist([*rows, {**rows[0], "reason": "duplicate"}], schema=REJECTS))
    assert main(["rejects", "--reason", "too_long", "--limit", "2"]) == 0
    printed = capsys.readouterr().out
    assert "4 rejected, 3 too_long, 1 duplicate" in printed
    assert "[b]9 tokens" in printed
    assert "1 more: --limit 3" in printed
    assert main(["rejects", "--reason", "nothing"]) == 1

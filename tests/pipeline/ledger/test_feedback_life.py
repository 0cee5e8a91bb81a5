"""`why` follows feedback from its file into the stages, and `takedown` removes it for good."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.download.tombstones import make_tombstone, read_tombstones
from pipeline.frame.errors import UserError
from pipeline.ledger.__main__ import main
from pipeline.ledger.feedback_life import explain_feedback, remove_rows
from pipeline.storage.tables import CONVERSATIONS, write_table

A, B = "fb_" + "a" * 24, "fb_" + "b" * 24


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data" / "feedback"
    folder.mkdir(parents=True)
    chats = [{"feedback": each, "messages": [], "license": "feedback-consent"} for each in (A, B)]
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chats))
    (folder / "turns.jsonl").write_text(json.dumps({"feedback": A, "user": "q", "says": ["x"]}) + "\n")
    row = {"kind": "chat", "messages": "[]", "source": "feedback", "license": "feedback-consent"}
    places = [f"feedback/chats.jsonl:{number}" for number in (1, 1, 12, 2)]
    rows = [{"id": str(n), "locator": place, **row} for n, place in enumerate(places)]
    (tmp_path / "data" / "conversations").mkdir()
    table = pa.Table.from_pylist(rows, schema=CONVERSATIONS)
    write_table(tmp_path / "data" / "conversations" / "train.parquet", table)
    return tmp_path / "data"


def test_why_names_the_file_the_stage_and_the_rows(data: Path) -> None:
    text = explain_feedback(A, data, [])
    assert "feedback/chats.jsonl, line 1, read by conversations" in text
    assert "trained on, 2 rows" in text
    assert "feedback/turns.jsonl, line 1, read by evaluate" in text
    assert "not evaluated yet" in text
    with pytest.raises(UserError, match="no feedback"):
        explain_feedback("fb_" + "c" * 24, data, [])


def test_takedown_removes_the_rows_of_this_feedback_only(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stones = data / "takedowns.jsonl"
    flags = ["--data", str(data), "--takedowns", str(stones)]
    assert main(["takedown", A, *flags]) == 1  # no reason
    assert main(["takedown", A, *flags, "--reason", "asked"]) == 0
    assert "1 of chats.jsonl, 1 of turns.jsonl" in capsys.readouterr().out
    assert [stone.key for stone in read_tombstones(stones)] == [f"feedback:{A}"]
    assert not (data / "feedback" / "turns.jsonl").exists()
    assert [json.loads(line)["feedback"] for line in (data / "feedback" / "chats.jsonl").read_text().splitlines()] == [
        B
    ]
    assert main(["why", A, *flags]) == 0
    assert "taken down" in capsys.readouterr().out
    assert main(["takedown", "fb_" + "c" * 24, *flags, "--reason", "asked"]) == 1


def test_removing_nothing_changes_nothing(data: Path) -> None:
    before = (data / "feedback" / "chats.jsonl").read_bytes()
    assert remove_rows(["fb_" + "z" * 24], data) == {}
    assert (data / "feedback" / "chats.jsonl").read_bytes() == before


def test_a_tombstone_of_feedback_needs_an_id() -> None:
    assert make_tombstone("feedback", A.upper(), "r").value == A
    with pytest.raises(UserError, match="not a feedback"):
        make_tombstone("feedback", "abc", "r")

"""Feedback that the service exports is read strictly, and never makes a held-out question a training question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.frame.errors import UserError
from pipeline.screening.feedback import (
    CHATS,
    QUESTIONS,
    TURNS,
    find_feedback_file,
    read_feedback_questions,
    read_feedback_rows,
)
from pipeline.storage.written_questions import QuestionRow

ID = "fb_" + "a" * 24
WRITTEN = [QuestionRow("known?", ("lib.known",), "train"), QuestionRow("held?", ("lib.held",), "heldout")]


def write(folder: Path, name: str, *rows: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_no_folder_and_no_file_are_no_feedback(tmp_path: Path) -> None:
    assert find_feedback_file(None, CHATS) is None
    assert read_feedback_questions(tmp_path / "missing", WRITTEN) == []
    assert read_feedback_rows(write(tmp_path, "README.md"), TURNS, ("user",)) == []


def test_titles_of_heldout_questions_stay_held_out(tmp_path: Path) -> None:
    folder = write(
        tmp_path,
        QUESTIONS,
        {"feedback": ID, "question": "new?", "titles": ["lib.held", "lib.new"]},
        {"feedback": ID, "question": "held again?", "titles": ["lib.held"]},
        {"feedback": ID, "question": "known?", "titles": ["lib.other"]},
        {"feedback": ID, "question": " new? ", "titles": ["lib.second"]},
    )
    assert read_feedback_questions(folder, WRITTEN) == [QuestionRow("new?", ("lib.new", "lib.second"), "train")]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "no id?", "titles": ["a"]},
        {"feedback": "fb_short", "question": "q?", "titles": ["a"]},
        {"feedback": ID, "question": "q?", "titles": []},
        {"feedback": ID, "question": "", "titles": ["a"]},
        {"feedback": ID, "question": "q?", "titles": ["a"], "split": "heldout"},
        ["a list"],
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: object) -> None:
    with pytest.raises(UserError, match=r"questions\.jsonl:1"):
        read_feedback_questions(write(tmp_path, QUESTIONS, row), WRITTEN)


def test_a_file_that_is_no_feedback_stops_the_stage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"others\.jsonl"):
        find_feedback_file(write(tmp_path, "others.jsonl"), CHATS)

"""Feedback on the command line: what is listed can be named, and what is accepted is said to teach something or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.__main__ import main
from service.database.database import Database
from service.feedback.feedback_store import FeedbackStore, NewFeedback
from tests.service.feedback.test_feedback_store import ADA, add_answer


@pytest.fixture
def feedback_id(tmp_path: Path) -> str:
    """Return the id of a thumb down with consent, in a state folder."""
    database = Database.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    try:
        given = NewFeedback(add_answer(database), "down", "no_source", "\x1b[31mred", consent=True)
        return FeedbackStore(database, str).add(ADA, given).id
    finally:
        database.close()


def run(tmp_path: Path, *words: str) -> int:
    return main(["feedback", *words, "--state", str(tmp_path)])


def test_what_is_listed_can_be_accepted(tmp_path: Path, feedback_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "list", "--only", "new") == 0
    out = capsys.readouterr().out
    assert feedback_id in out
    assert "\x1b" not in out
    assert "What is 6*7?" in out
    assert run(tmp_path, "accept", feedback_id) == 0
    assert "teaches nothing" in capsys.readouterr().out
    assert run(tmp_path, "accept", feedback_id, "--correction", "Ask bea@larkfield.io now.") == 0
    assert "teaches nothing" not in capsys.readouterr().out
    assert run(tmp_path, "list") == 0
    listed = capsys.readouterr().out
    assert "bea@larkfield.io" not in listed
    assert "1 accepted down" in listed


def test_what_is_not_there_is_a_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "list") == 0
    assert "there is no feedback yet" in capsys.readouterr().out
    assert run(tmp_path, "reject", "fb_none") == 1
    assert "there is none of this id" in capsys.readouterr().err

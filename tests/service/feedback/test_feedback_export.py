"""What accepted feedback teaches goes into three files, the same bytes for the same feedback; nothing else does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from service.feedback.feedback_export import make_export, read_taken_down, write_export
from service.feedback.feedback_store import Feedback

BASE = Feedback(
    tenant="acme",
    id="fb_" + "a" * 24,
    answer="ans_x",
    user="ada",
    time=datetime(2026, 11, 30, tzinfo=UTC),
    rating="down",
    reason="wrong",
    comment="no",
    correction="",
    consent=True,
    messages=(("user", "Who made you?"),),
    text="I found nothing.",
    titles=(),
    version="7",
    state="accepted",
)


def names(*rows: Feedback) -> dict[str, int]:
    return {name: len(each) for name, each in make_export(rows).rows.items() if each}


def test_a_correction_teaches_a_conversation_and_a_turn() -> None:
    export = make_export([replace(BASE, correction="The team of ACME.")])
    [chat], [turn] = export.rows["chats.jsonl"], export.rows["turns.jsonl"]
    assert chat["messages"] == [
        {"role": "user", "content": "Who made you?"},
        {"role": "assistant", "content": "The team of ACME."},
    ]
    assert turn == {"feedback": BASE.id, "user": "Who made you?", "says": ["The team of ACME."]}
    assert "ada" not in json.dumps(export.rows)


def test_titles_teach_the_search() -> None:
    assert names(replace(BASE, titles=("a.b",))) == {"questions.jsonl": 1, "turns.jsonl": 1}
    assert names(replace(BASE, rating="up", titles=("a.b",))) == {"questions.jsonl": 1}


def test_a_liked_answer_without_sources_teaches_a_conversation() -> None:
    assert names(replace(BASE, rating="up")) == {"chats.jsonl": 1}


def test_a_conversation_of_several_turns_teaches_no_single_question() -> None:
    messages = (("user", "Hi"), ("assistant", "Hello"), ("user", "Who made you?"))
    assert names(replace(BASE, messages=messages, correction="ACME.", titles=("a.b",))) == {"chats.jsonl": 1}


def test_what_was_not_accepted_given_or_kept_is_in_no_file() -> None:
    row = replace(BASE, correction="ACME.")
    assert names(replace(row, state="new"), replace(row, state="rejected"), replace(row, consent=False)) == {}
    export = make_export([row], frozenset({row.id}))
    assert (any(export.rows.values()), export.n_taken_down) == (False, 1)
    assert make_export([BASE]).unused == [BASE.id]


def test_equal_feedback_gives_equal_bytes_and_an_empty_file_is_removed(tmp_path: Path) -> None:
    rows = [replace(BASE, id="fb_" + letter * 24, correction=letter) for letter in "cab"]
    write_export(tmp_path / "one", make_export(rows))
    write_export(tmp_path / "two", make_export(reversed(rows)))
    for name in ("chats.jsonl", "turns.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    write_export(tmp_path / "one", make_export([]))
    assert list((tmp_path / "one").iterdir()) == []


def test_takedowns_are_read_from_the_file_of_the_pipeline(tmp_path: Path) -> None:
    path = tmp_path / "takedowns.jsonl"
    assert read_taken_down(path) == frozenset()
    path.write_text('{"kind": "id", "value": "x"}\n{"kind": "feedback", "value": "fb_y", "reason": "r"}\n')
    assert read_taken_down(path) == {"fb_y"}

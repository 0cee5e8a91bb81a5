"""Memory: what is forgotten is in no file; corrections supersede; recalled sentences are quoted and shown with their source."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from assistant.conversation.events import Message, Recalled, Sampling, TextPiece
from assistant.conversation.session import Session
from assistant.memory import memory_store
from assistant.memory.memory_commands import erase_lines, make_commands
from assistant.memory.memory_requests import read_request
from assistant.memory.memory_store import MAX_CHARS, MAX_MEMORIES, MemoryStore
from assistant.memory.remembering import NOTHING, Remembering
from assistant.memory.similarity import make_measure
from assistant.tools.toolbox import Tools
from tests.assistant.conftest import ChoosingEngine

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "zebrafish"


def open_remembering(path: Path, now: datetime = NOW) -> Remembering:
    return Remembering(MemoryStore(path), make_measure(None), "c1", lambda: now)


def open_session(path: Path) -> Session:
    return Session(ChoosingEngine(0, "I talk."), Tools({}), responders=[open_remembering(path)])


def ask(session: Session, text: str) -> str:
    return "".join(event.text for event in session.send(text, Sampling()) if isinstance(event, TextPiece))


def read_raw(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("n_others", [0, 3, 300])
@pytest.mark.parametrize("way", ["one", "all", "replaced", "expired"])
def test_what_is_forgotten_is_in_no_file(tmp_path: Path, n_others: int, way: str) -> None:
    store = MemoryStore(tmp_path / "memory.sqlite")
    with sqlite3.connect(store.path) as reader:  # another process has it open, so that the log stays
        reader.execute("SELECT * FROM memories").fetchall()
        for number in range(n_others):
            store.add(f"sentence {number} " + "x" * (number % 400), "c", 1, NOW)
        memory = store.add(f"my pet is a {SECRET}", "c", 1, NOW, NOW + timedelta(hours=1))
        for number in range(n_others):
            store.add(f"later {number} " + "y" * (number % 400), "c", 1, NOW)
        assert SECRET.encode() in read_raw(tmp_path)
        if way == "one":
            assert store.forget([memory.number]) == 1
        elif way == "all":
            assert store.forget() == 2 * n_others + 1
        elif way == "replaced":
            store.add("my pet is a cat", "c", 2, NOW, instead_of=[memory.number])
        else:
            assert memory not in store.list_memories(NOW + timedelta(hours=1))
        assert SECRET.encode() not in read_raw(tmp_path)
    reader.close()
    assert SECRET.encode() not in read_raw(tmp_path)
    assert len(store.list_memories(NOW)) == {"all": 0, "replaced": 2 * n_others + 1}.get(way, 2 * n_others)


def _die(connection: sqlite3.Connection) -> None:
    os._exit(9)


def test_a_process_that_dies_while_forgetting_leaves_nothing_behind_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(tmp_path / "memory.sqlite")
    store.add(f"my pet is a {SECRET}", "c", 1, NOW)
    with monkeypatch.context() as patched:
        patched.setattr(memory_store, "_erase", _die)
        process = multiprocessing.get_context("fork").Process(target=store.forget)
        process.start()
        process.join(60)
    assert process.exitcode == 9
    assert SECRET.encode() in read_raw(tmp_path)
    assert not store.list_memories(NOW)  # it was forgotten, and the next use of the file erases it
    assert SECRET.encode() not in read_raw(tmp_path)


def test_a_memory_has_its_source_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path / "memory.sqlite")
    first = store.add("a\x1b[31m\nb\u202e c", "c1", 3, NOW)
    assert first.text == "a [31m b c"
    assert first.source == "conversation c1, turn 3, 2026-03-01T12:00:00+00:00"
    assert MemoryStore(store.path).list_memories(NOW) == [first]
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    store.forget()
    assert store.add("d", "c1", 4, NOW).number == first.number + 1  # numbers are never given again


@pytest.mark.parametrize("text", ["", " \x00 ", "x" * (MAX_CHARS + 1)])
def test_a_sentence_is_bounded(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=f"1 to {MAX_CHARS} characters"):
        MemoryStore(tmp_path / "memory.sqlite").add(text, "c", 1, NOW)


def test_the_number_of_sentences_is_bounded(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path / "memory.sqlite")
    with sqlite3.connect(store.path) as connection:
        rows = [("x", "c", 1, "t")] * MAX_MEMORIES
        connection.executemany("INSERT INTO memories (text, conversation, turn, time) VALUES (?, ?, ?, ?)", rows)
    connection.close()
    with pytest.raises(ValueError, match="memory is full"):
        store.add("y", "c", 1, NOW)


def test_other_files_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    (tmp_path / "text").write_text("hello, this is no database, it is a text\n" * 20)
    for path in (other, tmp_path / "text", tmp_path):
        before = path.read_bytes() if path.is_file() else b""
        with pytest.raises(ValueError, match="--memory"):
            MemoryStore(path)
        assert not before or path.read_bytes()[100:] == before[100:]


def _write_some(path: Path, name: str) -> None:
    store = MemoryStore(path)
    for number in range(10):
        memory = store.add(f"{name} {number}", name, number, NOW)
        if number % 2:
            store.forget([memory.number])


def test_two_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write_some, args=(tmp_path / "m.sqlite", name)) for name in "ab"]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    memories = MemoryStore(tmp_path / "m.sqlite").list_memories(NOW)
    assert sorted(memory.text for memory in memories) == sorted(f"{name} {n}" for name in "ab" for n in range(0, 10, 2))


def test_remember_ask_correct(tmp_path: Path) -> None:
    session = open_session(tmp_path / "m.sqlite")
    assert ask(session, "Remember that my name is Ada") == 'I remember: "my name is Ada" [memory 1]'
    assert ask(session, "please remember: I use polars for CSV files") == (
        'I remember: "I use polars for CSV files" [memory 2]'
    )
    other = open_session(tmp_path / "m.sqlite")  # another conversation
    assert ask(other, "What's my name?") == 'my name: "my name is Ada" [memory 1]'
    assert ask(other, "no, my name is Bea") == 'I remember: "my name is Bea" [memory 3], instead of "my name is Ada"'
    assert ask(other, "who am I?") == 'my name: "my name is Bea" [memory 3]'
    assert ask(other, "What did I tell you about CSV?") == 'CSV: "I use polars for CSV files" [memory 2]'
    assert ask(other, "What did I tell you about whales?") == NOTHING
    assert ask(other, "What do you remember about me?").count("[memory ") == 2
    assert b"Ada" not in read_raw(tmp_path)


class Rhymes:
    """An embedder that knows two directions: money and everything else."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [(1.0, 0.0) if {"salari", "wage", "earn"} & set(text.split()) else (0.0, 1.0) for text in texts]
        return np.array(rows, np.float32)


def test_sentences_with_other_words_are_recalled_by_the_embedder_but_not_replaced_unasked(tmp_path: Path) -> None:
    store = MemoryStore(tmp_path / "m.sqlite")
    store.add("the wage is due in May", "c", 1, NOW)
    store.add("I like tea", "c", 2, NOW)
    for measure, expected in ((make_measure(Rhymes()), [1]), (make_measure(None), [])):
        remembering = Remembering(store, measure, "c1", lambda: NOW)
        events = remembering.recall([Message.of("user", "When will the salary come?")])
        assert [event.number for event in events if isinstance(event, Recalled)] == expected
    events = Remembering(store, make_measure(Rhymes()), "c1", lambda: NOW).respond(
        [Message.of("user", "no, my salary comes in June")]
    )
    assert events == [TextPiece('Does that replace "the wage is due in May" [memory 1]? (yes or no)')]


@pytest.mark.parametrize(
    "text",
    ["Can you remember that I like tea?", "Could you please remember that I like tea", "Don’t forget: I like tea"],
)
def test_requests_to_remember(text: str) -> None:
    request = read_request(text, NOW)
    assert request is not None
    assert (request.kind, request.text) == ("remember", "I like tea")


def test_an_unclear_correction_asks(tmp_path: Path) -> None:
    for answer, expected in (("yes", ["I live in Rome"]), ("no", ["I live in Paris", "I live in Rome"])):
        session = open_session(tmp_path / f"{answer}.sqlite")
        ask(session, "remember I live in Paris")
        assert ask(session, "actually, I live in Rome") == (
            'Does that replace "I live in Paris" [memory 1]? (yes or no)'
        )
        ask(session, answer)
        memories = MemoryStore(tmp_path / f"{answer}.sqlite").list_memories(NOW)
        assert [memory.text for memory in memories] == expected
    session = open_session(tmp_path / "unanswered.sqlite")
    ask(session, "remember I live in Paris")
    ask(session, "actually, I live in Rome")
    ask(session, "What is numpy.sum?")
    assert ask(session, "yes").startswith("I talk.")  # the question has passed


def test_what_has_to_do_with_a_message_is_recalled_and_given_to_the_model(tmp_path: Path) -> None:
    session = open_session(tmp_path / "m.sqlite")
    ask(session, "remember that my name is Ada")
    ask(session, "remember that I use polars for CSV files")
    events = list(session.send("How do I read CSV files with polars?", Sampling()))
    [recalled] = [event for event in events if isinstance(event, Recalled)]
    assert (recalled.number, recalled.text) == (2, "I use polars for CSV files")
    assert "conversation c1, turn 2" in recalled.source
    assert [message.text for message in session.messages if message.role == "system"] == [
        "The user is called Ada.",
        "The user said: I use polars for CSV files",
    ]
    ask(session, "remember: hi is how I greet")
    for text in ("Sing a song!", "Hi!"):
        assert not [event for event in session.send(text, Sampling()) if isinstance(event, Recalled)]


@pytest.mark.parametrize(
    "text",
    [
        "Do I have to remember that?",
        "remember when we met",
        "What is numpy.sum?",
        "actually, what is numpy.sum?",
        "How do I invert a matrix?",
        "no",
        "my name is Ada",
        "I remember that day",
    ],
)
def test_nothing_is_remembered_without_being_asked_for(text: str) -> None:
    request = read_request(text, NOW)
    assert request is None or request.kind == "recall"


@pytest.mark.parametrize(
    ("text", "expires"),
    [
        ("remember for 3 days that x", NOW + timedelta(days=3)),
        ("remember until 2026-05-01: x", datetime(2026, 5, 2, tzinfo=UTC)),
        ("remember x", None),
    ],
)
def test_expiry(text: str, expires: datetime | None) -> None:
    request = read_request(text, NOW)
    assert request is not None
    assert (request.text.endswith("x"), request.expires) == (True, expires and request.expires)
    assert expires is None or (request.expires is not None and abs(request.expires - expires) <= timedelta(hours=12))


@pytest.mark.parametrize("text", ["for 3 parsecs that x", "until 2020-01-01 x", "for 0 days x", "until 2026-13-45 x"])
def test_an_impossible_expiry_is_said_and_nothing_is_stored(tmp_path: Path, text: str) -> None:
    session = open_session(tmp_path / "m.sqlite")
    assert ask(session, f"remember {text}").startswith("I can't do that: ")
    assert not MemoryStore(tmp_path / "m.sqlite").list_memories(NOW)


def test_commands(tmp_path: Path) -> None:
    remembering = open_remembering(tmp_path / "m.sqlite")
    history = tmp_path / "history"
    history.write_text(f"\n# 2026-03-01 12:00:00\n+hello\n\n# 2026-03-01 12:00:01\n+remember my pet is a {SECRET}\n")
    commands = make_commands(remembering, lambda: NOW, history)
    assert commands["/memories"]("") == "nothing is remembered"
    assert "[memory 1]" in commands["/remember"](f"my pet is a {SECRET}")
    assert commands["/memories"]("").startswith(f"[memory 1] my pet is a {SECRET} (conversation c1, turn 1, 2026")
    exported = tmp_path / "out.json"
    assert commands["/memories"](str(exported)) == f"1 exported to {exported}"
    assert json.loads(exported.read_text())[0]["text"] == f"my pet is a {SECRET}"
    assert "does not overwrite" in commands["/memories"](str(exported))
    exported.unlink()
    for wrong in ("", "x", "-1", "9", "９"):
        commands["/forget"](wrong)
        assert len(remembering.store.list_memories(NOW)) == 1
    assert commands["/forget"]("1") == "1 forgotten"
    assert SECRET.encode() not in read_raw(tmp_path)
    assert "+hello" in history.read_text()
    assert commands["/remember"]("").startswith("a sentence to remember has 1 to")


def test_a_history_without_the_sentence_stays(tmp_path: Path) -> None:
    history = tmp_path / "history"
    history.write_bytes(b"\n# t\n+a\xff\n")
    erase_lines(history, ["zzz"])
    assert history.read_bytes() == b"\n# t\n+a\xff\n"

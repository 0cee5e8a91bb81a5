"""The tutor: exercises come from the material, are checked by code, and are logged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistant.conversation.events import Notice, Sampling
from assistant.profiles.__main__ import main
from assistant.profiles.exercises import BLANK, Exercise, is_code, is_right
from assistant.profiles.learner_log import VERBS, LearnerLog, make_statements, read_log
from assistant.profiles.profile import load_profile
from tests.assistant.knowledge.test_collection import add
from tests.assistant.profiles.test_profile import ask, folders, open_session

__all__ = ["folders"]  # a fixture
TIME = datetime(2026, 3, 1, 12, tzinfo=UTC)
COURSE = """# Generators

A generator is a function with yield in its body.

```
>>> sum(n for n in [1, 2])
3
```

```
def count():
    yield 1
```
"""


def make_exercise(kind: str, solution: str) -> Exercise:
    return Exercise("key", kind, "text", solution, "title", "url")


@pytest.mark.parametrize(
    ("kind", "solution", "answer", "expected"),
    [
        ("output", "'a'", '"a"', True),
        ("output", "[1, 2]", "[1,2]", True),
        ("output", "3", "3.0", False),
        ("output", "<Shape.ROUND: 2>", "<Shape.ROUND:  2>", True),
        ("output", "3", "__import__('os').system('false')", False),
        ("output", "3", "(" * 5000, False),
        ("term", "Generator", "generator.", True),
        ("term", "Generator", "iterator", False),
        ("code", "yield", "`yield`", True),
        ("code", "yield", "", False),
    ],
)
def test_answers_are_checked_by_value_or_by_words(kind: str, solution: str, answer: str, expected: bool) -> None:
    assert is_right(make_exercise(kind, solution), answer) is expected


def test_a_lesson(handbook: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (handbook / "generators.md").write_text(COURSE)
    add(handbook / "generators.md", name="course")
    session = open_session(load_profile("tutor"))
    assert ask(session, "exercise") == "On which topic? Say: exercise on TOPIC."
    assert (
        ask(session, "Give me an exercise on generators")
        == "From [Generators]: what does the last line print?\n>>> sum(n for n in [1, 2])"
    )
    assert ask(session, "4") == "Not yet. Read [Generators] and try again, or say: solution."
    assert "[Generators]" in ask(session, "What is a generator?")  # a question leaves the exercise open
    assert ask(session, "3") == "Right: 3"
    asked = ask(session, "next")
    assert f"{BLANK} 1" in asked
    assert ask(session, "yield") == "Right: yield"
    assert f"A {BLANK} is a function" in ask(session, "exercise on generators")
    assert ask(session, "solution") == "generator\nRead it in [Generators]."
    assert "has no exercise" in ask(session, "exercise on generators")

    path = tmp_path / "learners/Tutor/ada.jsonl"
    entries, n_bad = read_log(path)
    assert [entry.verb for entry in entries] == [
        "attempted", "failed", "asked", "passed", "attempted", "passed", "attempted", "abandoned",
    ]  # fmt: skip
    assert n_bad == 0
    assert main(["log"]) == 0
    assert capsys.readouterr().out == "ada: 1 asked, 3 attempted, 2 passed, 1 failed, 1 abandoned\n"
    assert main(["log", "--xapi"]) == 0
    statements = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len({statement["id"] for statement in statements}) == len(entries)
    assert [statement["verb"]["id"] for statement in statements] == [VERBS[entry.verb] for entry in entries]
    assert statements[1]["result"] == {"response": "4", "success": False}
    assert list(make_statements(entries, "Tutor")) == statements


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("    yield 1", True),
        ("def count():", True),
        ("x = count()", True),
        ('println!("{x}");', True),
        ("Example (less idiomatic but to illustrate the point):", False),
        ("{{#include ../listings/structs/main.rs}}", False),
        ("- Moving PEP 584 forward (dict + and += operators)", False),
        ("Call count() for the number of items.", False),
    ],
)
def test_lines_of_code_are_told_from_prose(line: str, expected: bool) -> None:
    assert is_code(line) is expected


def test_thanks_are_no_attempt(handbook: Path, tmp_path: Path) -> None:
    (handbook / "generators.md").write_text(COURSE)
    add(handbook / "generators.md", name="course")
    session = open_session(load_profile("tutor"))
    ask(session, "exercise on generators")
    assert ask(session, "Thanks!") == "You are welcome."
    assert ask(session, "What is 12 * 7?") == "12 * 7 = 84"
    assert ask(session, "Who won the world cup?") == load_profile("tutor").policy.not_found
    assert [entry.verb for entry in read_log(tmp_path / "learners/Tutor/ada.jsonl")[0]] == ["attempted", "asked"]


def test_a_line_that_a_crash_cut_costs_only_itself(tmp_path: Path) -> None:
    log = LearnerLog(tmp_path, "ada")
    log.add(TIME, "passed", "a", "x", ["T"])
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + whole[:20])
    log.add(TIME, "passed", "b", "x", ["T"])
    entries, n_bad = read_log(log.path)
    assert [entry.object for entry in entries] == ["a", "b"]
    assert n_bad == 1
    assert log.list_done() == {"a", "b"}


def test_a_log_that_cannot_be_written_is_said_and_does_not_end_the_lesson(handbook: Path, tmp_path: Path) -> None:
    (handbook / "generators.md").write_text(COURSE)
    add(handbook / "generators.md", name="course")
    session = open_session(load_profile("tutor"))
    (tmp_path / "learners").write_text("a file instead of a folder")
    assert "[Generators]" in ask(session, "What is a generator?")
    events = list(session.send("exercise on generators", Sampling()))
    notices = [event.text for event in events if isinstance(event, Notice)]
    assert len(notices) == 2
    assert all(notice.startswith("the log can't be written; found ") for notice in notices)
    assert ask(session, "3") == "Right: 3"


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 65, "a b", "\x1b"])
def test_a_learner_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="--learner"):
        LearnerLog(tmp_path, name)


def test_no_log_is_an_error_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINIGPT_LEARNERS", str(tmp_path))
    assert main(["log"]) == 1
    assert str(tmp_path) in capsys.readouterr().err

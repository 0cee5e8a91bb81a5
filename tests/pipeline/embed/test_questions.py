from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.embed.questions import Question, locate_answers, read_questions
from pipeline.frame.errors import UserError
from tests.conftest import ROOT

SEEDS = ROOT / "data" / "seed" / "questions"


def write(folder: Path, *rows: object) -> Path:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_our_questions_are_many_and_half_of_them_held_out() -> None:
    questions = read_questions(SEEDS)
    heldout = [text for text, _, split in questions if split == "heldout"]
    assert len(questions) >= 600
    assert 0.4 < len(heldout) / len(questions) < 0.6


def test_every_package_of_the_corpus_has_questions() -> None:
    packages = {title.partition(".")[0] for _, titles, _ in read_questions(SEEDS) for title in titles}
    wanted = (
        "numpy scipy torch pandas polars sklearn sqlalchemy matplotlib networkx sympy mlflow prefect numba pydantic"
    )
    assert {
        *wanted.split(),
        "hypothesis",
        "pyarrow",
        "fsspec",
        "rich",
        "prompt_toolkit",
        "datasketch",
        "print",
    } <= packages


def test_titles_that_are_not_there_are_named() -> None:
    asked = [("how?", ("a.b", "a.c"), "train"), ("why?", ("a.d",), "heldout")]
    assert locate_answers(asked, {"a.b": 7}) == ([Question("how?", (7,), "train")], ["a.c", "a.d"], ["why?"])


ROW = {"question": "how?", "titles": ["a.b"], "split": "train"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["how?"]], "a.jsonl:1: not a question"),
        ([{**ROW, "answer": "so"}], "answer"),
        ([{**ROW, "question": " "}], "question must be a text"),
        ([{**ROW, "titles": []}], "titles must be a list"),
        ([{**ROW, "titles": "a.b"}], "titles must be a list"),
        ([{**ROW, "split": "test"}], "'test'"),
        ([ROW, ROW], "a.jsonl:2: the question is there twice"),
        ([ROW, {**ROW, "question": "why?", "split": "heldout"}], "a title of both splits"),
    ],
)
def test_a_broken_question_is_refused_with_its_line(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises(UserError) as error:
        read_questions(write(tmp_path, *rows))
    assert message in str(error.value)


def test_a_line_that_is_not_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"question"\n')
    with pytest.raises(UserError, match=r"b\.jsonl:1: not JSON"):
        read_questions(tmp_path)

"""Layouts of evaluation sets: each row becomes an item or a counted reject; what can't be read is refused by name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.evaluate.layouts import CHOICES, GAPS, MINIMAL_PAIRS, PROBLEMS, Layout, read_last_number, read_set
from pipeline.frame.errors import UserError
from tests.conftest import ROOT


def read(layout: Layout[Any], folder: Path, path: str = "a.jsonl", max_items: int | None = None) -> Any:
    return read_set(layout, folder, path, "evaluate.sets.0", max_items, 1)


def write(folder: Path, *rows: Mapping[str, Any]) -> Path:
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_minimal_pairs_of_blimp(tmp_path: Path) -> None:
    rows = [
        {"sentence_good": "A b.", "sentence_bad": "A c.", "UID": "one"},
        {"sentence_good": "A d.", "sentence_bad": "A e."},
        {"sentence_good": "Same.", "sentence_bad": "Same."},
        {"sentence_good": "No other."},
        {"sentence_good": " ", "sentence_bad": "A."},
        {"sentence_good": 5, "sentence_bad": "A."},
    ]
    read_ = read(MINIMAL_PAIRS, write(tmp_path, *rows))
    assert [(each.id, each.group, each.good, each.bad) for each in read_.items] == [
        ("a:1", "one", "A b.", "A c."),
        ("a:2", "a", "A d.", "A e."),
    ]
    assert read_.rejected == {"equal_sentences": 1, "missing_field": 2, "empty_text": 1}


ARC = {"question": "Q?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}


@pytest.mark.parametrize(
    ("row", "context", "choices", "right"),
    [
        (ARC, "Question: Q?\nAnswer:", (" x", " y"), 1),
        ({**ARC, "choices": [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}], "answerKey": "1"},
         "Question: Q?\nAnswer:", (" x", " y"), 0),
        ({"ctx": "He runs", "endings": ["home [step] now.", "away."], "label": "1"}, "He runs", (" home now.", " away."), 1),
        ({"ctx": "He runs", "activity_label": "Sport", "endings": ["x", "y"], "label": 0}, "Sport: He runs", (" x", " y"), 0),
        ({"goal": "Open it", "sol1": "pull", "sol2": "push", "label": 1}, "Question: Open it\nAnswer:", (" pull", " push"), 1),
        ({"question": "Q?", "choices": ["x", "y", "z"], "answer": 2}, "Question: Q?\nAnswer:", (" x", " y", " z"), 2),
        ({"question": "Q?", "choices": ["x", "y"], "answer": "B"}, "Question: Q?\nAnswer:", (" x", " y"), 1),
    ],
)  # fmt: skip
def test_choices(row: dict[str, Any], context: str, choices: tuple[str, ...], right: int, tmp_path: Path) -> None:
    (item,) = read(CHOICES, write(tmp_path, row)).items
    assert (item.context, item.choices, item.right) == (context, choices, right)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answerKey": "C"}, "no_right_choice"),
        ({"choices": {"text": ["x", "x"], "label": ["A", "B"]}}, "equal_choices"),
        ({"choices": {"text": ["x", None], "label": ["A", "B"]}}, "choices_no_texts"),
        ({"choices": None}, "choices_no_texts"),
        ({"choices": {"text": ["x"], "label": ["B"]}}, "equal_choices"),
        ({"question": ""}, "empty_text"),
        ({"choices": ["x", "y"], "answer": 2}, "no_right_choice"),
        ({"choices": ["x", "y"], "answer": True}, "no_right_choice"),
        ({"choices": ["x", "y"], "answer": -1}, "no_right_choice"),
    ],
)
def test_choices_that_are_no_items_are_counted(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    read_ = read(CHOICES, write(tmp_path, ARC, {**ARC, **change}))
    assert (len(read_.items), read_.rejected) == (1, {reason: 1})


def test_a_table_without_a_header_is_mmlu(tmp_path: Path) -> None:
    (tmp_path / "quiz.csv").write_text('What?,a,b,"c, d",e,C\nWho?,f,g,h,i,A\n')
    items = read(CHOICES, tmp_path, "quiz.csv").items
    assert [(each.id, each.choices[each.right]) for each in items] == [("quiz:1", " c, d"), ("quiz:2", " f")]


def test_the_last_word_of_lambada(tmp_path: Path) -> None:
    read_ = read(GAPS, write(tmp_path, {"text": "He went to the store"}, {"text": "one"}, {"text": 3}))
    assert [(each.context, each.word) for each in read_.items] == [("He went to the", " store")]
    assert read_.rejected == {"one_word": 1, "missing_field": 1}


def test_the_number_of_gsm8k(tmp_path: Path) -> None:
    rows = [
        {"question": "How many?", "answer": "2+2=<<2+2=4>>4\n#### 1,204"},
        {"question": "How many?", "answer": 3.50},
    ]
    read_ = read(PROBLEMS, write(tmp_path, *rows, {"question": "How many?", "answer": "none"}))
    assert [each.answer for each in read_.items] == ["1204", "3.5"]
    assert read_.rejected == {"no_number": 1}
    assert [read_last_number(text) for text in ("-3 apples", "8, then 10.", "x", "2.0")] == ["-3", "10", None, "2"]


def test_files_of_a_folder_are_one_set_with_different_ids(tmp_path: Path) -> None:
    row = json.dumps({"text": "a b"}) + "\n"
    for name in ("x/a.jsonl.gz", "y/a.jsonl.gz"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(gzip.compress(row.encode()))
    assert [each.id for each in read(GAPS, tmp_path, "*/a.jsonl.gz").items] == ["x/a:1", "y/a:1"]


def test_items_are_chosen_by_the_seed_and_keep_their_order(tmp_path: Path) -> None:
    folder = write(tmp_path, *({"text": f"a {n}"} for n in range(50)))
    words = [int(each.word) for each in read(GAPS, folder, max_items=10).items]
    assert len(words) == 10
    assert words == sorted(words)
    assert words != list(range(10))
    assert words == [int(each.word) for each in read(GAPS, folder, max_items=10).items]


@pytest.mark.parametrize("content", ["", '{"other": 1}\n', '{"sentence_good": "a", "sentence_bad": "a"}\n'])
def test_a_set_without_items_is_refused_with_what_was_found(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"evaluate\.sets\.0: no items in a\.jsonl") as error:
        read(MINIMAL_PAIRS, tmp_path)
    assert "no rows" in error.value.found or "none of them an item" in error.value.found


@pytest.mark.parametrize("content", [b'{"sentence_good": "a",\n', b"\xff\xfe\x00broken\n", b"[1, 2]\n"])
def test_a_broken_file_is_refused_with_its_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.jsonl"):
        read(MINIMAL_PAIRS, tmp_path)


def test_a_set_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"evaluate\.sets\.0\.path"):
        read(MINIMAL_PAIRS, tmp_path, "none.jsonl")


def test_our_own_sets_are_items_throughout() -> None:
    folder = ROOT / "data/seed/evaluation"
    pairs = read(MINIMAL_PAIRS, folder, "minimal_pairs.jsonl")
    assert (len(pairs.items), pairs.rejected) == (120, {})
    n_shorter = sum((len(each.good) < len(each.bad)) + (len(each.good) == len(each.bad)) / 2 for each in pairs.items)
    assert 0.4 <= n_shorter / len(pairs.items) <= 0.6  # length tells nothing
    problems = read(PROBLEMS, folder, "exact_match.jsonl")
    assert (len(problems.items), problems.rejected) == (24, {})

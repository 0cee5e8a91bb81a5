"""Read items of evaluation sets from files, in the layouts in which public sets are distributed.

In: `.jsonl .json .csv .tsv .parquet .arrow` files, plain or compressed, below a folder. Out: items, and how many rows are no items,
by reason. The layout of a row is recognized by its fields:

    minimal pairs    BLiMP: sentence_good, sentence_bad; the paradigm is UID, or the file's name
    choices          ARC: question, choices.text, choices.label, answerKey; HellaSwag: ctx, endings, label; PIQA: goal, sol1, sol2,
                     label; MMLU: question, choices, answer; or a .csv without a header: question, four choices, letter
    cloze            LAMBADA: text, whose last word is asked for
    questions        GSM8K: question, answer, of which the number behind #### counts

Contexts are those of EleutherAI's lm-eval (`Question: …\nAnswer:`), so that scores can be compared. Memory: the items of one set.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Generic, NamedTuple, TypeVar

from pipeline.frame.errors import UserError
from pipeline.storage.files import FoundFile, find_below, iterate_rows, open_local
from pipeline.storage.rows import CSV
from pipeline.storage.streams import split_name

LETTERS = "ABCDEFGHIJ"
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_BRACKETS = re.compile(r"\[.*?\]")

Row = Mapping[str, Any]


class MinimalPair(NamedTuple):
    """Two sentences of which one is acceptable."""

    id: str
    group: str
    good: str
    bad: str


class Choices(NamedTuple):
    """A context, what may follow it, and the index of what does."""

    id: str
    group: str
    context: str
    choices: tuple[str, ...]
    right: int


class Gap(NamedTuple):
    """A text without its last word, and that word with the space before it."""

    id: str
    group: str
    context: str
    word: str


class NumberProblem(NamedTuple):
    """A question whose answer is a number."""

    id: str
    group: str
    question: str
    answer: str


Item = TypeVar("Item", MinimalPair, Choices, Gap, NumberProblem)


class Layout(NamedTuple, Generic[Item]):
    """How rows become items. `fields` are those that any layout has; `parse` raises `RejectError`."""

    fields: Sequence[str]
    parse: Callable[[Row, str, str], Item]


class ReadSet(NamedTuple, Generic[Item]):
    """The items of a set, and the number of its other rows by reason."""

    items: list[Item]
    rejected: Counter[str]


class RejectError(ValueError):
    """A row is no item; the message is the reason, which is counted."""


def read_set(
    layout: Layout[Item], folder: Path, path: str, setting: str, max_items: int | None, seed: int
) -> ReadSet[Item]:
    """Return the items of all files that `path` names below `folder`, in their order; of more than `max_items`, a random choice.

    Raises `UserError` for a file that can't be read, or a set without any item.
    """
    items: dict[str, Item] = {}
    rejected: Counter[str] = Counter()
    first: Sequence[str] = ()
    for file in find_below(folder, path, f"{setting}.path"):
        name, stem = split_parts(file.name)
        for number, row in _read_rows(file, layout.fields, f"{setting}.path"):
            first = first or sorted(map(str, row))
            try:
                item = layout.parse(row, f"{name}:{number}", stem)
            except RejectError as reason:
                rejected[str(reason)] += 1
                continue
            items[item.id] = item
    if not items:
        found = f"{sum(rejected.values())} rows, none of them an item ({_format_counts(rejected)}); fields {', '.join(first)}"
        raise UserError(
            f"{setting}: no items in {path}",
            found if first else "no rows",
            f"give files with the fields of a layout in docs/evaluation.md: {', '.join(layout.fields)}",
        )
    chosen = list(items)
    if max_items is not None and len(chosen) > max_items:
        kept = set(Random(seed).sample(chosen, max_items))
        chosen = [id_ for id_ in chosen if id_ in kept]
    return ReadSet([items[id_] for id_ in chosen], rejected)


def split_parts(name: str) -> tuple[str, str]:
    """Return the name of a file inside its set without endings, and without its folders too."""
    folder, slash, file = name.rpartition("/")
    stem = file.partition(".")[0]
    return folder + slash + stem, stem


def _read_rows(file: FoundFile, fields: Sequence[str], setting: str) -> Iterator[tuple[int, Row]]:
    """Yield number and fields of each row; the fields of a table without a header are numbers."""
    kind = split_name(file.name)[0]
    if kind in CSV:
        with open_local(file, setting) as stream:
            _, row = next(iterate_rows(stream, kind, fields, file.path), (0, dict[str, Any]()))
        if not set(fields) & set(row):
            fields = [field for field in fields if field.isdecimal()] or fields
    with open_local(file, setting) as stream:
        yield from iterate_rows(stream, kind, fields, file.path)


def _format_counts(counts: Counter[str]) -> str:
    return ", ".join(f"{reason}: {n}" for reason, n in sorted(counts.items()))


def _get_text(row: Row, name: str) -> str:
    """Return a text of a row. Raises `RejectError` if there is none."""
    value = row.get(name)
    if not isinstance(value, str):
        raise RejectError("missing_field")
    if not value.strip():
        raise RejectError("empty_text")
    return value


def parse_minimal_pair(row: Row, id_: str, stem: str) -> MinimalPair:
    """Return the pair of a row in BLiMP's layout."""
    good, bad = _get_text(row, "sentence_good").strip(), _get_text(row, "sentence_bad").strip()
    if good == bad:
        raise RejectError("equal_sentences")
    return MinimalPair(id_, str(row.get("UID") or stem), good, bad)


def parse_choices(row: Row, id_: str, stem: str) -> Choices:
    """Return the item of a row in the layout of ARC, HellaSwag, PIQA or MMLU."""
    if "endings" in row and row["endings"] is not None:
        context, choices, right = _parse_hellaswag(row)
    elif row.get("sol1") is not None:
        context = f"Question: {_get_text(row, 'goal')}\nAnswer:"
        choices, right = [_get_text(row, "sol1"), _get_text(row, "sol2")], row.get("label")
    elif row.get("6") is not None:
        context = f"Question: {_get_text(row, '1')}\nAnswer:"
        choices, right = [_get_text(row, str(column)) for column in range(2, 6)], row["6"]
    else:
        context = f"Question: {_get_text(row, 'question')}\nAnswer:"
        choices, right = _parse_choices(row)
    if not isinstance(choices, list) or not all(isinstance(each, str) and each.strip() for each in choices):
        raise RejectError("choices_no_texts")
    texts = tuple(" " + " ".join(each.split()) for each in choices)
    if not 2 <= len(set(texts)) == len(texts):
        raise RejectError("equal_choices")
    return Choices(id_, id_, context, texts, _find_right(right, len(texts)))


def _parse_hellaswag(row: Row) -> tuple[str, Any, Any]:
    activity = row.get("activity_label")
    context = f"{activity}: {_get_text(row, 'ctx')}" if isinstance(activity, str) else _get_text(row, "ctx")
    endings = row["endings"]
    if isinstance(endings, list):
        endings = [_clean_title(each) if isinstance(each, str) else each for each in endings]
    return _clean_title(context), endings, row.get("label")


def _clean_title(text: str) -> str:
    """Return a text of WikiHow without its markup."""
    return " ".join(_BRACKETS.sub("", text.replace(" [title]", ". ")).split())


def _parse_choices(row: Row) -> tuple[Any, Any]:
    choices = row.get("choices")
    if isinstance(choices, Mapping):
        texts, labels, key = choices.get("text"), choices.get("label"), row.get("answerKey")
    elif isinstance(choices, list) and choices and all(isinstance(each, Mapping) for each in choices):
        texts, labels = [each.get("text") for each in choices], [each.get("label") for each in choices]
        key = row.get("answerKey")
    else:
        return choices, row.get("answer", row.get("label"))
    if not isinstance(labels, list) or key not in labels:
        raise RejectError("no_right_choice")
    return texts, labels.index(key)


def _find_right(value: Any, n: int) -> int:
    """Return the index of the right choice from an index, its digits, or a letter."""
    if isinstance(value, str):
        text = value.strip()
        value = LETTERS.find(text) if len(text) == 1 and text in LETTERS else int(text) if text.isdecimal() else -1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < n:
        raise RejectError("no_right_choice")
    return value


def parse_gap(row: Row, id_: str, stem: str) -> Gap:
    """Return the item of a row in LAMBADA's layout."""
    context, space, word = _get_text(row, "text").strip().rpartition(" ")
    if not space or not context.strip():
        raise RejectError("one_word")
    return Gap(id_, id_, context, f" {word}")


def parse_problem(row: Row, id_: str, stem: str) -> NumberProblem:
    """Return the item of a row in GSM8K's layout; an answer without #### is the number itself."""
    question, answer = _get_text(row, "question"), row.get("answer")
    answer = str(answer) if isinstance(answer, int | float) and not isinstance(answer, bool) else answer
    if not isinstance(answer, str):
        raise RejectError("missing_field")
    number = read_last_number(answer.rpartition("####")[2])
    if number is None:
        raise RejectError("no_number")
    return NumberProblem(id_, id_, question, number)


def read_last_number(text: str) -> str | None:
    """Return the last number of a text without its separators; None if there is none."""
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    number = numbers[-1].replace(",", "")
    return number.rstrip("0").rstrip(".") if "." in number else number


MINIMAL_PAIRS = Layout(("sentence_good", "sentence_bad", "UID"), parse_minimal_pair)
CHOICES = Layout(
    ("question", "choices", "answerKey", "answer", "goal", "sol1", "sol2", "label", "ctx", "activity_label", "endings",
     "1", "2", "3", "4", "5", "6"),
    parse_choices,
)  # fmt: skip
GAPS = Layout(("text",), parse_gap)
PROBLEMS = Layout(("question", "answer"), parse_problem)

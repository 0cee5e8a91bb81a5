"""Gather what the guard is trained on, with labels, weights and folds.

In: wordings made by templates, messages of the conversations that the assistant is trained on, sentences of the index, labeled
files. Out: texts with a label per output (1, 0, or -1 where nothing is known), a weight and a fold. The wordings of a theme and its
look-alikes are in one fold, so that a fold is scored by a model that has never seen its themes; other texts are spread by their
hash. Harmless messages are in it by windows too, as they will be read. Each text is in it once; the first source wins.

Covers: messages of seeds and skills only (what users brought is not known to be harmless).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from model.guard.categories import HARM, NOT_HARM, OUTPUTS
from model.guard.harm_classifier import cut_windows
from model.retrieval.segment import Segment
from pipeline.guard.labeled_files import LabeledText
from pipeline.guard.request_wordings import Wording
from pipeline.skills.refusal import is_refusal
from pipeline.storage.tables import read_table

OWN_SOURCES = ("seed", "skills")
MIN_SENTENCE_CHARS, MAX_SENTENCE_CHARS = 20, 400
MAX_MESSAGE_CHARS = 2_000
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n{2,}")


class TrainingSet(NamedTuple):
    """Texts, labels (texts × outputs), weights, folds, and the group of each: the theme, or the source."""

    texts: list[str]
    labels: NDArray[np.int8]
    weights: NDArray[np.float32]
    folds: NDArray[np.int64]
    groups: list[str]


class _Row(NamedTuple):
    text: str
    label: NDArray[np.int8]
    weight: float
    fold: int
    group: str


def make_label(is_harmful: bool, category: str | None) -> NDArray[np.int8]:
    """Return the label of every output: harmless texts have 0 everywhere; of a harmful one without a category only `harm` is known,
    and that it is no order to the assistant."""
    label = np.zeros(len(OUTPUTS), np.int8)
    if is_harmful and category is None:
        label[:] = -1
        label[OUTPUTS.index(HARM)] = 1
        label[[OUTPUTS.index(name) for name in NOT_HARM]] = 0
    elif is_harmful and category is not None:
        label[OUTPUTS.index(category)] = 1
        label[OUTPUTS.index(HARM)] = category not in NOT_HARM
    return label


def make_training_set(
    wordings: Sequence[Wording],
    messages: Sequence[tuple[str, bool]],
    sentences: Sequence[str],
    labeled: Sequence[LabeledText],
    n_folds: int,
    seed: int,
) -> TrainingSet:
    """Return all texts, each once."""

    def spread(text: str) -> int:
        return xxhash.xxh3_64_intdigest(f"{seed} {text}".encode()) % n_folds

    mixed = {each.theme for each in wordings} - {each.theme for each in wordings if each.category}
    themes = sorted({each.theme for each in wordings} - mixed, key=spread)
    folds = {theme: number % n_folds for number, theme in enumerate(themes)}
    rows = [
        *(
            _Row(
                each.text,
                make_label(bool(each.category), each.category or None),
                1.0,
                folds[each.theme] if each.theme in folds else spread(each.text),
                each.theme,
            )
            for each in wordings
        ),
        *(
            _Row(part, make_label(harm, None), 1.0, spread(text), "messages")
            for text, harm in messages
            for part in ([text] if harm else [text, *cut_windows(text)])
        ),
        *(_Row(text, make_label(False, None), 1.0, spread(text), "sentences") for text in sentences),
        *(
            _Row(each.text, make_label(each.is_harmful, each.category), each.weight, spread(each.text), each.source)
            for each in labeled
        ),
    ]
    unique = list({row.text: row for row in reversed(rows)}.values())[::-1]
    return TrainingSet(
        [row.text for row in unique],
        np.array([row.label for row in unique], np.int8).reshape(len(unique), len(OUTPUTS)),
        np.array([row.weight for row in unique], np.float32),
        np.array([row.fold for row in unique], np.int64),
        [row.group for row in unique],
    )


def read_messages(conversations: Path, n: int, seed: int) -> list[tuple[str, bool]]:
    """Return at most `n` distinct messages of users from our own conversations, and whether the answer refuses them; at most a
    quarter is refused. Which ones depends on the seed and the texts, not on their order."""
    table = read_table(conversations / "train.parquet", ["messages", "source"])
    answers: dict[str, bool] = {}
    for content, source in zip(table["messages"].to_pylist(), table["source"].to_pylist(), strict=True):
        if source not in OWN_SOURCES:
            continue
        turns = json.loads(content)
        for question, answer in pairwise(turns):
            if question["role"] == "user" and len(question["content"]) <= MAX_MESSAGE_CHARS:
                answers.setdefault(question["content"], is_refusal(answer["content"]))
    ordered = _order_by_hash(answers, seed)
    refused = [text for text in ordered if answers[text]][: n // 4]
    others = [text for text in ordered if not answers[text]][: n - n // 4]
    return [(text, answers[text]) for text in (*refused, *others)]


def read_sentences(index: Path, n: int, seed: int) -> list[str]:
    """Return at most `n` distinct sentences of the index: what passages look like that order nothing."""
    segment = Segment.open(index)
    texts: Iterable[str] = segment.sections.column("text")
    ordered = _order_by_hash(dict.fromkeys(texts), seed)[: 2 * n]
    sentences: dict[str, None] = {}
    for text in ordered:
        parts = [part.strip() for part in _SENTENCE.split(text)]
        parts = [part for part in parts if MIN_SENTENCE_CHARS <= len(part) <= MAX_SENTENCE_CHARS]
        if parts:
            sentences.setdefault(parts[xxhash.xxh3_64_intdigest(text.encode()) % len(parts)])
    return list(sentences)[:n]


def _order_by_hash(texts: Iterable[str], seed: int) -> list[str]:
    return sorted(texts, key=lambda text: xxhash.xxh3_64_intdigest(f"{seed} {text}".encode()))

"""Train the quality classifier on examples of both classes from the corpus and from files, evaluate and apply it.

In: the documents, files below the input `examples`, the sections `positives` and `negatives` of the params. Out: the model's file,
the same bytes for the same examples and settings in any order; a calibration on the tenth of the examples that the model never saw.
A hash of a text's words decides whether it is held out, and whether it is sampled when a class has more than `max_docs`, so copies
of a text are never split between training and evaluation. Memory: twice `max_docs` lines of `max_chars` per class, one example file
of text, and the model (4 * `dim` bytes per word or bucket). The pure functions over columns are in quality.py.

Examples from the corpus are later scored by the model that was trained on them; the calibration holds for the other documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from pipeline.filter.classifiers.fasttext import check_same, load_model, train
from pipeline.filter.classifiers.quality import (
    HELDOUT_FRAC,
    LABEL,
    POSITIVE,
    Calibration,
    calibrate,
    extract_quality_words,
    make_training_lines,
    score_quality,
)
from pipeline.filter.params import ExampleFiles, Examples, QualityClassifier
from pipeline.frame.errors import UserError
from pipeline.storage.files import TEXT, FoundFile, find_below, find_texts, iterate_rows, open_local
from pipeline.storage.lines import decode_text
from pipeline.storage.streams import split_name
from pipeline.storage.tables import read_batches
from pipeline.text.columns import Fractions

SETTING = "filter.quality_classifier"
MIN_EXAMPLES = 10  # per class for training; fewer is a mistake, not a choice
N_CHECKED = 1_000
BATCH_TEXTS = 2_048

Sampled = dict[int, str]  # the hash of a text's words → these words


def train_quality(params: QualityClassifier, docs: Path, examples: Path, model: Path) -> Calibration:
    """Write the model and return its calibration on held-out examples. Raises `UserError` for too few examples."""
    sides = {
        "positives": _sample(_read_words(params, "positives", docs, examples), params),
        "negatives": _sample(_read_words(params, "negatives", docs, examples), params),
    }
    for hash_ in sides["positives"].keys() & sides["negatives"].keys():
        del sides["negatives"][hash_]
    training = {name: _select_part(sampled, is_heldout=False) for name, sampled in sides.items()}
    heldout = {name: _select_part(sampled, is_heldout=True) for name, sampled in sides.items()}
    for name, sampled in sides.items():
        if len(training[name]) < MIN_EXAMPLES or not heldout[name]:
            raise UserError(
                f"{SETTING}.{name}: too few examples",
                f"{len(sampled)} different texts",
                f"name sources or files with at least {int(MIN_EXAMPLES / HELDOUT_FRAC)}",
            )
    train(
        make_training_lines(training["positives"], training["negatives"], params.seed),
        model,
        label=LABEL,
        minCount=params.min_word_count,
        wordNgrams=params.word_ngrams,
        dim=params.dim,
        bucket=params.n_buckets,
        lr=params.learning_rate,
        epoch=params.n_epochs,
        seed=params.seed,
    )
    lines = pa.array([*heldout["positives"], *heldout["negatives"]], pa.string())
    check_same(model, lines[:N_CHECKED])
    is_positive = np.arange(len(lines)) < len(heldout["positives"])
    return calibrate(load_model(model).judge(lines, [POSITIVE])[1], is_positive)


def score_texts(params: QualityClassifier, model: Path, texts: pa.StringArray) -> Fractions:
    """Return the score of each text by the model that `train_quality` wrote."""
    return score_quality(load_model(model), texts, params.max_chars)


def _read_words(params: QualityClassifier, side: str, docs: Path, examples: Path) -> Iterator[Sequence[str]]:
    """Yield the words of each example of a class, batch by batch."""
    wanted: Examples = getattr(params, side)
    cut = partial(extract_quality_words, max_chars=params.max_chars)
    if wanted.sources:
        rivals = params.positives.sources if side == "negatives" else []
        for batch in read_batches(docs, ["text", "source"]):
            is_wanted = [
                source.startswith(tuple(wanted.sources)) and not source.startswith(tuple(rivals))
                for source in batch.column("source").to_pylist()
            ]
            yield cut(batch.column("text").filter(pa.array(is_wanted, pa.bool_()))).to_pylist()
    for index, files in enumerate(wanted.files):
        texts = read_examples(files, examples, f"{SETTING}.{side}.files.{index}")
        while batch := list(islice(texts, BATCH_TEXTS)):
            yield cut(pa.array(batch, pa.string())).to_pylist()


def read_examples(params: ExampleFiles, folder: Path, setting: str) -> Iterator[str]:
    """Yield the texts of example files below `folder`. Raises `UserError` for files without any."""
    n_texts = 0
    for file in find_below(folder, params.path, f"{setting}.path"):
        for text in _read_texts(params, file, f"{setting}.path"):
            n_texts += 1
            yield text
    if not n_texts:
        raise UserError(
            f"{setting}: no texts",
            f"{params.path!r}, text_column {params.text_column!r}",
            "name files with texts, and the column that holds them",
        )


def _read_texts(params: ExampleFiles, file: FoundFile, setting: str) -> Iterator[str]:
    """Yield the texts of one example file."""
    kind = split_name(file.name)[0]
    with open_local(file, setting) as stream:
        if kind == TEXT:
            text = decode_text(stream.read())
            yield from find_texts(text.split(params.split_on) if params.split_on else text, ())
            return
        column = params.text_column
        for _, row in iterate_rows(stream, kind, [column], file.path):
            yield from find_texts(row, (column,) if column in row else column.split("."))


def _sample(batches: Iterable[Sequence[str]], params: QualityClassifier) -> Sampled:
    """Return the `max_docs` distinct examples with the lowest hashes, sorted by hash."""
    sampled: Sampled = {}
    for batch in batches:
        sampled |= {xxhash.xxh3_64_intdigest(words.encode(), params.seed): words for words in batch if words}
        if len(sampled) > 2 * params.max_docs:
            sampled = {hash_: sampled[hash_] for hash_ in sorted(sampled)[: params.max_docs]}
    return {hash_: sampled[hash_] for hash_ in sorted(sampled)[: params.max_docs]}


def _select_part(sampled: Sampled, *, is_heldout: bool) -> list[str]:
    """Return the held-out or the training examples. The low digits decide, since the high ones determined the sample."""
    every = round(1 / HELDOUT_FRAC)
    return [words for hash_, words in sampled.items() if (hash_ % every == 0) == is_heldout]

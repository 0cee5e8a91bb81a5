"""Train the language model on our own sentences, or copy a third-party model whose hash is known; evaluate and apply it.

In: data/seed/languages/*.txt, one sentence or a list of words per line, one file per language, written by us; a third-party model
below data/examples. Out: the model's file, and its accuracy on every tenth line, which it never saw. Our model's file ends with a
note that fastText does not read: the letters of each language (alphabets.py) and the limits of the score (score_limits.py), fitted
on those tenth lines. The same sentences and settings give the same bytes. Time: two to five seconds for 5,000 sentences. A
third-party model such as lid.176 is used only if its sha256 is the one in params.yaml. The pure functions over columns are in
language.py.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from pipeline.filter.classifiers.alphabets import collect_letters, make_alphabets
from pipeline.filter.classifiers.fasttext import append_note, check_same, load_model, read_note, train
from pipeline.filter.classifiers.language import (
    LABEL,
    Judgment,
    LanguageModel,
    Sentence,
    extract_plain_prose,
    extract_prose,
    judge,
    make_training_lines,
    measure_accuracy,
    split_heldout,
)
from pipeline.filter.classifiers.ngram_classifier import Classifier
from pipeline.filter.classifiers.score_limits import CalibratedModel, fit_limits
from pipeline.filter.params import Language, ModelFile
from pipeline.frame.errors import UserError
from pipeline.storage.lines import read_list


def train_language(params: Language, folder: Path, examples: Path, model: Path) -> tuple[float, float]:
    """Write the model, trained on the sentences in `folder` or copied from below `examples`.

    Return its accuracy on held-out sentences, and the fraction of foreign ones that would pass.
    """
    sentences = read_sentences(folder, params.keep if params.model is None else ())
    training, heldout = split_heldout(sentences)
    if params.model is not None:
        copy_model(params.model, examples, model)
        _check_labels(params, model)
    else:
        train(
            make_training_lines(training, params.keep, params.n_spans, params.n_mixed, params.keep_weight, params.seed),
            model,
            label=LABEL,
            minn=params.min_char_ngram,
            maxn=params.max_char_ngram,
            dim=params.dim,
            bucket=params.n_buckets,
            lr=params.learning_rate,
            epoch=params.n_epochs,
            seed=params.seed,
        )
        _calibrate(params, model, training, heldout)
    texts = pa.array([sentence.text for sentence in heldout], pa.string())
    check_same(model, _extract_lines(params, texts))
    return measure_accuracy(judge_texts(params, model, texts), heldout, params.keep, params.min_score)


def judge_texts(params: Language, model: Path, texts: pa.StringArray) -> Judgment:
    """Return the language and score of each text by the model that `train_language` wrote."""
    loaded = load_calibrated(model) if params.model is None else load_model(model)
    return judge(loaded, _extract_lines(params, texts), params.keep)


def _calibrate(params: Language, path: Path, training: Sequence[Sentence], heldout: Sequence[Sentence]) -> None:
    """Append the letters of each language and the limits of its scores by length to the file of the model."""
    classifier = load_model(path)
    assert isinstance(classifier, Classifier), "we train no other kind"
    learned, unseen = ([(LABEL + s.language, s.text) for s in part] for part in (training, heldout))
    letters = collect_letters(_extract_labeled(params, learned))
    alphabets = make_alphabets(letters, classifier.labels)
    limits = fit_limits(classifier, alphabets, _extract_labeled(params, unseen), [LABEL + name for name in params.keep])
    append_note(path, json.dumps({"letters": letters, "limits": limits}))


def _extract_labeled(params: Language, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the pairs of label and text with the prose of each text."""
    lines: list[str] = _extract_lines(params, pa.array([text for _, text in pairs], pa.string())).to_pylist()
    return [(label, line) for (label, _), line in zip(pairs, lines, strict=True)]


def load_calibrated(path: Path) -> LanguageModel:
    """Return the model that `train_language` trained, read again only after the file changes."""
    status = path.stat()
    return _load_calibrated(path, status.st_mtime_ns, status.st_ino, status.st_size)


@lru_cache(maxsize=8)
def _load_calibrated(path: Path, *_state: int) -> CalibratedModel:
    """Load the model with its calibration; `_state` changes with the file and invalidates the cache."""
    classifier = load_model(path)
    assert isinstance(classifier, Classifier), "we train no other kind"
    note = json.loads(read_note(path))
    return CalibratedModel(classifier, make_alphabets(note["letters"], classifier.labels), tuple(note["limits"]))


def _extract_lines(params: Language, texts: pa.StringArray) -> pa.StringArray:
    """Return the texts' prose: normalized words for our model, text as written for a third-party model."""
    return (
        extract_prose(texts, params.max_prose_bytes)
        if params.model is None
        else extract_plain_prose(texts, params.max_prose_bytes)
    )


def copy_model(wanted: ModelFile, folder: Path, model: Path) -> None:
    """Copy a third-party model from below `folder` to `model` if its sha256 is the one in params.yaml.

    Raises `UserError` if it can't be read or has another hash. Nothing is loaded before the hash is verified.
    """
    try:
        shutil.copyfile(folder / wanted.path, model)
    except OSError as error:
        raise UserError(
            "filter.language.model.path: can't be read",
            f"{folder / wanted.path}: {error}",
            f"put the file into {folder}",
        ) from error
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != wanted.sha256:
        model.unlink()
        raise UserError(
            "filter.language.model: the file has another hash",
            f"{folder / wanted.path} has sha256 {digest}, params.yaml has {wanted.sha256}",
            "if you trust this file, set filter.language.model.sha256 to its hash",
        )


def _check_labels(params: Language, model: Path) -> None:
    """Raise `UserError` if the model lacks a wanted language."""
    labels = load_model(model).labels
    if missing := [language for language in params.keep if LABEL + language not in labels]:
        known = ", ".join(label.removeprefix(LABEL) for label in labels[:10])
        raise UserError(
            "filter.language.keep: the model lacks this language",
            f"{', '.join(missing)}; its {len(labels)} labels are {known}, …",
            "use the model's names of languages, or choose another model",
        )


def read_sentences(folder: Path, keep: Sequence[str]) -> list[Sentence]:
    """Return the sentences of all `<language>.txt`.

    Raises `UserError` if a wanted language has no file, or if there is only one language.
    """
    sentences: list[Sentence] = []
    for path in sorted(folder.glob("*.txt")):
        sentences.extend(Sentence(path.stem, line) for _, line in read_list(path))
    names = {sentence.language for sentence in sentences}
    if missing := set(keep) - names:
        raise UserError(
            "filter.language.keep: no sentences to train on",
            ", ".join(sorted(missing)),
            f"add {folder}/<language>.txt",
        )
    if len(names) < 2:
        raise UserError(f"{folder}: only one language", ", ".join(names), "add sentences in other languages")
    return sentences

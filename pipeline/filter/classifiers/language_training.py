"""The language model: our sentences from files and fastText trained on them, or a third-party model by its file and hash.

In: data/seed/languages/*.txt, one sentence a line, one file a language, written by us; a third-party model below
data/examples. Out: the model's file, and how good it is
on every tenth sentence, which it never saw. The same sentences and settings give the same bytes. Time: about five seconds for
5,000 sentences. A third-party model (lid.176, say) is used only if its sha256 is the one in params.yaml.
What goes in and comes out as columns is in `text/language.py`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from pipeline.filter.classifiers.fasttext import check_same, load_model, train
from pipeline.filter.classifiers.language import (
    LABEL,
    Judgment,
    Sentence,
    extract_plain_prose,
    extract_prose,
    judge,
    make_training_lines,
    measure_accuracy,
    split_heldout,
)
from pipeline.filter.params import Language, ModelFile
from pipeline.frame.errors import UserError


def train_language(params: Language, folder: Path, examples: Path, model: Path) -> tuple[float, float]:
    """Write the model, trained on the sentences in `folder` or copied from below `examples`.

    Return its accuracy on sentences that it never saw, and the fraction of foreign ones that it takes for wanted.
    """
    sentences = read_sentences(folder, params.keep if params.model is None else ())
    learn, heldout = split_heldout(sentences)
    if params.model is not None:
        copy_model(params.model, examples, model)
        _check_labels(params, model)
    else:
        train(
            make_training_lines(learn, params.keep, params.n_spans, params.n_mixed, params.keep_weight, params.seed),
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
    texts = pa.array([sentence.text for sentence in heldout], pa.string())
    check_same(model, _extract_lines(params, texts))
    return measure_accuracy(judge_texts(params, model, texts), heldout, params.keep, params.min_score)


def judge_texts(params: Language, model: Path, texts: pa.StringArray) -> Judgment:
    """The language of each text and its score, by the model that `train_language` wrote."""
    return judge(load_model(model), _extract_lines(params, texts), params.keep)


def _extract_lines(params: Language, texts: pa.StringArray) -> pa.StringArray:
    """Our model learnt lower-case words; those of others know text as people write it."""
    return (
        extract_prose(texts, params.max_prose_bytes)
        if params.model is None
        else extract_plain_prose(texts, params.max_prose_bytes)
    )


def copy_model(wanted: ModelFile, folder: Path, model: Path) -> None:
    """Copy a third-party model from below `folder` to `model` if its sha256 is the one in params.yaml.

    Raises `UserError` if it can't be read or is another file. Nothing is loaded before its hash is known.
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
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted.sha256:
        model.unlink()
        raise UserError(
            "filter.language.model: another file than the one named",
            f"{folder / wanted.path} has sha256 {found}, params.yaml says {wanted.sha256}",
            "if you trust this file, set filter.language.model.sha256 to its hash",
        )


def _check_labels(params: Language, model: Path) -> None:
    labels = load_model(model).labels
    if missing := [language for language in params.keep if LABEL + language not in labels]:
        known = ", ".join(label.removeprefix(LABEL) for label in labels[:10])
        raise UserError(
            "filter.language.keep: the model does not know it",
            f"{', '.join(missing)}; its {len(labels)} labels are {known}, …",
            "name languages as the model does, or choose another model",
        )


def read_sentences(folder: Path, keep: Sequence[str]) -> list[Sentence]:
    """Sentences of all `<language>.txt`. Raises `UserError` if a wanted language has none, or there is nothing to tell it from."""
    found: list[Sentence] = []
    for path in sorted(folder.glob("*.txt")):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8", str(error), "save it as UTF-8") from error
        found.extend(Sentence(path.stem, line.strip()) for line in lines if line.strip())
    names = {sentence.language for sentence in found}
    if missing := set(keep) - names:
        raise UserError(
            "filter.language.keep: no sentences to learn from",
            ", ".join(sorted(missing)),
            f"add {folder}/<language>.txt",
        )
    if len(names) < 2:
        raise UserError(f"{folder}: only one language", ", ".join(names), "add sentences of others to tell it from")
    return found

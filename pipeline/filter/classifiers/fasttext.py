"""fastText models: trained, saved, loaded as arrays that our kernel reads. The only importer of fastText.

In: lines of a label and words; a file that fastText or we have saved. Out: a model file, the same bytes for the same lines and
settings (one thread, a seed); a `Classifier`, proved to say what fastText itself says. fastText reads a file without checks: hash
a file of others before it comes here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import fasttext
import numpy as np
import pyarrow as pa

from pipeline.filter.classifiers.ngram_classifier import Classifier, make_classifier, predict
from pipeline.frame.errors import UserError
from pipeline.text.columns import Fractions

ADDED = 1e-5  # by fastText to each probability
TOLERANCE = 1e-5


class FastTextModel(Protocol):
    """A classifier of lines, in arrays or in fastText itself."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]: ...


class NativeFastText(NamedTuple):
    """A model that our kernel can't read (quantised, or a tree of labels, as lid.176 is): fastText predicts."""

    model: Any
    labels: tuple[str, ...]

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]:
        """As `Classifier.judge`."""
        texts: list[str] = lines.to_pylist()
        labels, chances = self.model.predict(texts, k=1)
        found = [label[0] if text and label else "" for text, label in zip(texts, labels, strict=True)]
        score = np.array([float(p[0]) - ADDED if label else 0.0 for label, p in zip(found, chances, strict=True)])
        # the whole distribution costs more: only where the likeliest label does not settle it
        open_ = [i for i, label in enumerate(found) if label and (label not in wanted or len(wanted) > 1)]
        names, values = self.model.predict([texts[i] for i in open_], k=-1) if open_ else ([], [])
        for i, row, chance in zip(open_, names, values, strict=True):
            score[i] = sum(float(p) - ADDED for label, p in zip(row, chance, strict=True) if label in wanted)
        return pa.array(found, pa.string()), np.clip(score, 0.0, 1.0)


def train(lines: Iterable[str], path: Path, *, label: str, **settings: Any) -> None:
    """Writes the model of these lines; a label is a word that begins with `label`. Settings are fastText's own."""
    text = path.with_suffix(".txt")
    with text.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
    try:  # more threads race, and no two models are the same
        trained = fasttext.train_supervised(str(text), label=label, thread=1, verbose=0, **settings)
    except RuntimeError as error:
        raise UserError(
            f"filter: the {path.stem} model can't be trained", str(error), "lower its learning_rate in params.yaml"
        ) from error
    finally:
        text.unlink()
    trained.save_model(str(path))


def load_model(path: Path) -> FastTextModel:
    """The classifier of a file, read once a process and again when the file is another. Raises `UserError` if it holds none."""
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"{path}: no such model", str(error), "run the stage that makes it") from error
    return _load(path, found.st_mtime_ns, found.st_ino, found.st_size)


@lru_cache(maxsize=8)
def _load(path: Path, *_state: int) -> FastTextModel:
    model = read_model(path)
    arguments = model.f.getArgs()
    if arguments.loss != fasttext.FastText.loss_name.softmax or model.is_quantized():
        return NativeFastText(model, tuple(model.get_labels()))
    return make_classifier(
        model.get_words(),
        model.get_labels(),
        model.get_input_matrix(),
        model.get_output_matrix(),
        n_buckets=arguments.bucket,
        char_ngrams=(arguments.minn, arguments.maxn),
        word_ngrams=arguments.wordNgrams,
    )


def read_model(path: Path) -> Any:
    """fastText's own object. Raises `UserError` for any other file than one of a classifier."""
    try:
        model = fasttext.load_model(str(path))
    except (ValueError, MemoryError) as error:
        raise UserError(f"{path}: not a fastText model", str(error), "give a .bin or .ftz file of fastText") from error
    if model.f.getArgs().model != fasttext.FastText.model_name.supervised:
        raise UserError(f"{path}: no classifier", "word vectors", "give a model that was trained with labels")
    return model


def check_same(path: Path, lines: pa.StringArray) -> None:
    """Raises `ValueError` if the kernel's probabilities differ from fastText's own anywhere on the lines."""
    ours, texts = load_model(path), [line for line in lines.to_pylist() if line]
    if not isinstance(ours, Classifier) or not texts:
        return
    chances = predict(ours, pa.array(texts, pa.string())) + ADDED
    indices = {label: index for index, label in enumerate(ours.labels)}
    for row, labels, theirs in zip(chances, *read_model(path).predict(texts, k=-1), strict=True):
        apart = np.abs(row[[indices[label] for label in labels]] - theirs).max()
        if apart > TOLERANCE:
            raise ValueError(f"{path}: the kernel and fastText disagree by {apart:.2g}")

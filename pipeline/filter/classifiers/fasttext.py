"""Train and save fastText models, and load them as arrays for our kernel. The only importer of fastText.

In: lines of a label and words; a file saved by fastText or by us. Out: a model file, the same bytes for the same lines and
settings (one thread, a seed); a `Classifier` whose predictions are verified to equal fastText's. fastText does not validate the
files that it reads: verify the hash of a third-party file first.
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

ADDED = 1e-5  # fastText adds this to each probability
NOTE_MARK = b"minigpt-note-1\n"  # ends a file that has a note, after the length of the note
TOLERANCE = 1e-5


class FastTextModel(Protocol):
    """A classifier of lines, run by our kernel or by fastText itself."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]: ...


class NativeFastText(NamedTuple):
    """A model that our kernel can't read (quantized, or with hierarchical softmax like lid.176), so that fastText predicts."""

    model: Any
    labels: tuple[str, ...]

    def judge(self, lines: pa.StringArray, wanted: Sequence[str]) -> tuple[pa.StringArray, Fractions]:
        """Return the same as `Classifier.judge`."""
        texts: list[str] = lines.to_pylist()
        labels, chances = self.model.predict(texts, k=1)
        top = [label[0] if text and label else "" for text, label in zip(texts, labels, strict=True)]
        score = np.array([float(p[0]) - ADDED if label else 0.0 for label, p in zip(top, chances, strict=True)])
        # the whole distribution costs more, so ask for it only if the top label does not decide
        undecided = [i for i, label in enumerate(top) if label and (label not in wanted or len(wanted) > 1)]
        names, values = self.model.predict([texts[i] for i in undecided], k=-1) if undecided else ([], [])
        for i, row, chance in zip(undecided, names, values, strict=True):
            score[i] = sum(float(p) - ADDED for label, p in zip(row, chance, strict=True) if label in wanted)
        return pa.array(top, pa.string()), np.clip(score, 0.0, 1.0)


def train(lines: Iterable[str], path: Path, *, label: str, **settings: Any) -> None:
    """Train a model on the lines and write it. A label is a word that begins with `label`; settings are fastText's own."""
    text = path.with_suffix(".txt")
    with text.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
    try:  # with more threads the updates race and no two models are equal
        trained = fasttext.train_supervised(str(text), label=label, thread=1, verbose=0, **settings)
    except RuntimeError as error:
        raise UserError(
            f"filter: the {path.stem} model can't be trained", str(error), "lower its learning_rate in params.yaml"
        ) from error
    finally:
        text.unlink()
    trained.save_model(str(path))


def append_note(path: Path, note: str) -> None:
    """Append a text to a model's file; fastText reads only what it wrote itself."""
    data = note.encode()
    with path.open("ab") as file:
        file.write(data + len(data).to_bytes(8, "little") + NOTE_MARK)


def read_note(path: Path) -> str:
    """Return the text that `append_note` appended, or "" for a file without one."""
    data = path.read_bytes()
    if not data.endswith(NOTE_MARK):
        return ""
    stop = len(data) - len(NOTE_MARK) - 8
    return data[stop - int.from_bytes(data[stop : stop + 8], "little") : stop].decode()


def load_model(path: Path) -> FastTextModel:
    """Return the classifier of a file, read again only after the file changes. Raises `UserError` if the file is no classifier."""
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"{path}: no such model", str(error), "run the stage that writes it") from error
    return _load(path, status.st_mtime_ns, status.st_ino, status.st_size)


@lru_cache(maxsize=8)
def _load(path: Path, *_state: int) -> FastTextModel:
    """Load the classifier; `_state` changes with the file and invalidates the cache."""
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
    """Return fastText's own model object. Raises `UserError` if the file is no classifier."""
    try:
        model = fasttext.load_model(str(path))
    except (ValueError, MemoryError) as error:
        raise UserError(f"{path}: not a fastText model", str(error), "give a .bin or .ftz file of fastText") from error
    if model.f.getArgs().model != fasttext.FastText.model_name.supervised:
        raise UserError(f"{path}: not a classifier", "word vectors", "give a model that was trained with labels")
    return model


def check_same(path: Path, lines: pa.StringArray) -> None:
    """Raise `ValueError` if the kernel's probabilities differ from fastText's on any of the lines."""
    ours, texts = load_model(path), [line for line in lines.to_pylist() if line]
    if not isinstance(ours, Classifier) or not texts:
        return
    chances = predict(ours, pa.array(texts, pa.string())) + ADDED
    indices = {label: index for index, label in enumerate(ours.labels)}
    for row, labels, theirs in zip(chances, *read_model(path).predict(texts, k=-1), strict=True):
        difference = np.abs(row[[indices[label] for label in labels]] - theirs).max()
        if difference > TOLERANCE:
            raise ValueError(f"{path}: the kernel and fastText disagree by {difference:.2g}")

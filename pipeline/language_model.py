"""The language model: sentences from files, fastText trained on them, measured and stored. The only importer of fastText.

In: data/seed/languages/*.txt, one sentence a line, one file a language, written by us. Out: `language.bin`, and how good it
is on every tenth sentence, which it never saw. The same sentences and settings give the same bytes: one thread, a seed.
Time: about two seconds for 5,000 sentences. What goes in and comes out as columns is in `text/language.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import fasttext

from pipeline.errors import UserError
from pipeline.params import Language
from pipeline.text.language import Model, Sentence, measure, split_heldout, training_lines


def train_language(params: Language, folder: Path, model: Path) -> tuple[float, float]:
    """Writes the model; returns its accuracy on sentences it never saw, and how many foreign ones pass as wanted."""
    sentences = read_sentences(folder, params.keep)
    learn, heldout = split_heldout(sentences)
    lines = model.with_suffix(".txt")
    text = training_lines(learn, params.keep, params.n_spans, params.n_mixed, params.keep_weight, params.seed)
    lines.write_text("\n".join(text) + "\n", encoding="utf-8")
    trained = fasttext.train_supervised(
        str(lines),
        minn=params.min_char_ngram,
        maxn=params.max_char_ngram,
        dim=params.dim,
        bucket=params.n_buckets,
        lr=params.learning_rate,
        epoch=params.n_epochs,
        seed=params.seed,
        thread=1,  # more threads race, and no two models are the same
        verbose=0,
    )
    lines.unlink()
    trained.save_model(str(model))
    return measure(trained, heldout, params.keep, params.min_score)


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


@cache
def load_model(path: Path) -> Model:
    """The model of a file, read once a process."""
    return fasttext.load_model(str(path))

"""The language model: our sentences from files and fastText trained on them, or somebody's model by its address and hash.

In: data/seed/languages/*.txt, one sentence a line, one file a language, written by us. Out: the model's file, and how good it is
on every tenth sentence, which it never saw. The same sentences and settings give the same bytes. Time: about five seconds for
5,000 sentences. A model of others (lid.176, say) is used only if its sha256 is the one in params.yaml; it is fetched once.
What goes in and comes out as columns is in `text/language.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import fsspec
import pyarrow as pa

from pipeline.errors import UserError
from pipeline.fasttext_models import check_same, load_model, train
from pipeline.params import Language, ModelFile
from pipeline.sources.fetch import fetched_folder
from pipeline.text.language import (
    LABEL,
    Judgement,
    Sentence,
    judge,
    measure,
    plain_prose,
    prose,
    split_heldout,
    training_lines,
)

BLOCK_BYTES = 1 << 20


def train_language(params: Language, folder: Path, model: Path) -> tuple[float, float]:
    """Writes the model; returns its accuracy on sentences it never saw, and how many foreign ones pass as wanted."""
    sentences = read_sentences(folder, params.keep if params.model is None else ())
    learn, heldout = split_heldout(sentences)
    if params.model is not None:
        fetch_model(params.model, model)
        _check_labels(params, model)
    else:
        train(
            training_lines(learn, params.keep, params.n_spans, params.n_mixed, params.keep_weight, params.seed),
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
    check_same(model, _lines(params, texts))
    return measure(judge_texts(params, model, texts), heldout, params.keep, params.min_score)


def judge_texts(params: Language, model: Path, texts: pa.StringArray) -> Judgement:
    """The language of each text and its score, by the model that `train_language` wrote."""
    return judge(load_model(model), _lines(params, texts), params.keep)


def _lines(params: Language, texts: pa.StringArray) -> pa.StringArray:
    """Our model learnt lower-case words; those of others know text as people write it."""
    return prose(texts, params.max_prose_bytes) if params.model is None else plain_prose(texts, params.max_prose_bytes)


def fetch_model(wanted: ModelFile, model: Path) -> None:
    """Copies the model of this address to `model` if it has the right sha256. Fetched once: `fetched_folder` has it by its hash.
    Raises `UserError` if it can't be read or is another file. Nothing is loaded before its hash is known."""
    is_remote = "://" in wanted.path
    kept = fetched_folder() / wanted.sha256
    if is_remote and kept.is_file() and _copy(str(kept), model) == wanted.sha256:
        return
    found = _copy(wanted.path, model)
    if found != wanted.sha256:
        model.unlink()
        raise UserError(
            "filter.language.model: another file than the one named",
            f"{wanted.path} has sha256 {found}, params.yaml says {wanted.sha256}",
            "if you trust this file, set filter.language.model.sha256 to its hash",
        )
    if is_remote:
        kept.parent.mkdir(parents=True, exist_ok=True)
        partial = kept.with_name(f"{kept.name}.partial")
        _copy(str(model), partial)
        partial.replace(kept)


def _copy(address: str, target: Path) -> str:
    """Copies a file to disk; returns its sha256."""
    digest = hashlib.sha256()
    try:
        with fsspec.open(address, "rb") as source, target.open("wb") as copy:
            while block := source.read(BLOCK_BYTES):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType, reportAttributeAccessIssue]
                digest.update(block)  # pyright: ignore[reportUnknownArgumentType]
                copy.write(block)  # pyright: ignore[reportUnknownArgumentType]
    except Exception as error:  # every file system and protocol has its own
        target.unlink(missing_ok=True)
        raise UserError(
            "filter.language.model.path: can't be read", f"{address}: {error}", "correct the path or address"
        ) from error
    return digest.hexdigest()


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

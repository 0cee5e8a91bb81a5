"""How often the language is right: every sentence of data/seed/languages judged by a model that did not see it.

`python -m benchmarks.language_quality [FOLDER | FILE.tar.gz]` also judges pages of others in `pages.<language>/` (`pages/` is
English), with the model that the filter stage trains, and says for each language how many are right and how many pass as English.
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Result
from pipeline.fasttext_models import train
from pipeline.language_model import judge_texts, load_model, read_sentences, train_language
from pipeline.params import Language, load_params
from pipeline.text.language import HELDOUT_EVERY, LABEL, Sentence, judge, prose, split_heldout, training_lines

LANGUAGES = Path("data/seed/languages")
WANTED, WANTED_FOREIGN = 950, 2  # of 1,000
SAME = {"nb": {"no"}, "bs": {"hr", "sr"}}  # names of others for what our sentences call otherwise

Judged = list[tuple[str, str, float]]  # language, what the model says, score


def run() -> Result:
    """Sentences of 1,000 whose language is found, beside what is wanted."""
    params = load_params(Path("params.yaml")).filter.language
    judged = cross_validate(params)
    show("sentences that the model did not see", judged, params)
    right, passing = 1_000 * is_right(judged).mean(), 1_000 * np.mean(passes(judged, params))
    about = f"{len(judged)} sentences in {len({row[0] for row in judged})} languages, {HELDOUT_EVERY} models"
    about += f"; of 1,000 foreign ones {passing:.2f} pass as wanted (at most {WANTED_FOREIGN} may)"
    return Result(about, "right of 1,000", float(right), WANTED, "wanted")


def cross_validate(params: Language) -> Judged:
    """Each sentence is held out once, every tenth at a time."""
    by_language, judged = dict[str, list[Sentence]](), Judged()
    for sentence in read_sentences(LANGUAGES, params.keep):
        by_language.setdefault(sentence.language, []).append(sentence)
    with tempfile.TemporaryDirectory() as folder:
        for fold in range(HELDOUT_EVERY):
            learn, heldout = split_heldout(
                [s for group in by_language.values() for s in (*group[fold:], *group[:fold])]
            )
            model = Path(folder) / f"{fold}.bin"
            fit(params, learn, model)
            lines = prose(pa.array([sentence.text for sentence in heldout]), params.max_prose_bytes)
            found = judge(load_model(model), lines, params.keep)
            names = [sentence.language for sentence in heldout]
            judged += zip(names, found.language.to_pylist(), found.score.tolist(), strict=True)
    return judged


def fit(params: Language, learn: list[Sentence], model: Path) -> None:
    """As the filter stage does, from these sentences."""
    lines = training_lines(learn, params.keep, params.n_spans, params.n_mixed, params.keep_weight, params.seed)
    shape = {
        "minn": params.min_char_ngram,
        "maxn": params.max_char_ngram,
        "dim": params.dim,
        "bucket": params.n_buckets,
    }
    train(lines, model, label=LABEL, lr=params.learning_rate, epoch=params.n_epochs, seed=params.seed, **shape)


def is_right(judged: Judged) -> np.ndarray:
    return np.array([guess == name or guess in SAME.get(name, ()) for name, guess, _ in judged])


def passes(judged: Judged, params: Language) -> np.ndarray:
    """Of each foreign text whether it would be kept."""
    return np.array([score >= params.min_score for name, _, score in judged if name not in params.keep])


def show(title: str, judged: Judged, params: Language) -> None:
    """A line for each language, the weakest first."""
    by_language: dict[str, Judged] = defaultdict(list)
    for row in judged:
        by_language[row[0]].append(row)
    table = Table("language", "texts", "right", "kept", "taken for", title=title)
    for name, rows in sorted(by_language.items(), key=lambda item: is_right(item[1]).mean()):
        others = [guess for (_, guess, _), right in zip(rows, is_right(rows), strict=True) if not right]
        commonest = sorted(set(others), key=lambda guess: (-others.count(guess), guess))[:3]
        kept = sum(score >= params.min_score for _, _, score in rows)
        mistakes = ", ".join(f"{guess or 'none'} {others.count(guess)}" for guess in commonest)
        table.add_row(name, str(len(rows)), f"{is_right(rows).mean():.1%}", str(kept), mistakes)
    foreign = passes(judged, params)
    table.add_section()
    table.add_row(
        "all", str(len(judged)), f"{is_right(judged).mean():.1%}", f"{foreign.sum()} of {len(foreign)} foreign"
    )
    Console(width=100).print(table)


def pages(place: Path) -> Iterator[tuple[str, str]]:
    """Language and text of each page of a folder or archive."""
    if place.is_dir():
        for path in sorted(place.rglob("*.md")):
            yield from _page(path.relative_to(place).as_posix(), path.read_bytes())
        return
    with tarfile.open(place) as archive:
        for member in archive:
            if member.isfile() and (file := archive.extractfile(member)):
                yield from _page(member.name, file.read())


def _page(name: str, data: bytes) -> Iterator[tuple[str, str]]:
    for part in PurePosixPath(name).parts:
        if part == "pages" or part.startswith("pages."):
            yield part.partition(".")[2].partition("_")[0] or "en", data.decode("utf-8", "replace")


def main(places: list[str]) -> None:
    params = load_params(Path("params.yaml")).filter.language
    print(run())
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "language.bin"
        train_language(params, LANGUAGES, model)
        for place in places:
            names, texts = zip(*pages(Path(place)), strict=True)
            found = judge_texts(params, model, pa.array(texts, pa.string()))
            show(place, list(zip(names, found.language.to_pylist(), found.score.tolist(), strict=True)), params)


if __name__ == "__main__":
    main(sys.argv[1:])

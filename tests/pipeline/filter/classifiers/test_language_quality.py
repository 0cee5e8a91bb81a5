"""The language model is right about sentences that it has not seen: cross-validation over all of data/seed/languages."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.filter.classifiers.fasttext import train
from pipeline.filter.classifiers.language import (
    HELDOUT_EVERY,
    LABEL,
    Sentence,
    judge,
    prose,
    split_heldout,
    training_lines,
)
from pipeline.filter.classifiers.language_training import load_model, read_sentences
from pipeline.filter.params import Language
from pipeline.params import load_params
from tests.conftest import ROOT

SAME = {"nb": {"no"}, "bs": {"hr", "sr"}}  # other names for the languages of our sentences
Judged = list[tuple[str, str, float]]  # true language, judged language, score


def cross_validate(params: Language, folder: Path) -> Judged:
    """Hold out every sentence once, every tenth one at a time."""
    by_language: dict[str, list[Sentence]] = defaultdict(list)
    for sentence in read_sentences(ROOT / "data" / "seed" / "languages", params.keep):
        by_language[sentence.language].append(sentence)
    judged = Judged()
    for fold in range(HELDOUT_EVERY):
        learn, heldout = split_heldout([s for group in by_language.values() for s in (*group[fold:], *group[:fold])])
        model = folder / f"{fold}.bin"
        train_as_the_stage_does(params, learn, model)
        lines = prose(pa.array([sentence.text for sentence in heldout]), params.max_prose_bytes)
        found = judge(load_model(model), lines, params.keep)
        names = [sentence.language for sentence in heldout]
        judged += zip(names, found.language.to_pylist(), found.score.tolist(), strict=True)
    return judged


def train_as_the_stage_does(params: Language, learn: list[Sentence], model: Path) -> None:
    lines = training_lines(learn, params.keep, params.n_spans, params.n_mixed, params.keep_weight, params.seed)
    shape = {"minn": params.min_char_ngram, "maxn": params.max_char_ngram, "dim": params.dim}
    shape |= {"bucket": params.n_buckets, "epoch": params.n_epochs, "seed": params.seed}
    train(lines, model, label=LABEL, lr=params.learning_rate, **shape)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_languages_of_unseen_sentences_are_right_and_no_foreign_one_passes(tmp_path: Path) -> None:
    params = load_params(ROOT / "params.yaml").filter.language
    judged = cross_validate(params, tmp_path)
    is_right = np.array([guess == name or guess in SAME.get(name, ()) for name, guess, _ in judged])
    by_language: dict[str, list[bool]] = defaultdict(list)
    for (name, _, _), right in zip(judged, is_right.tolist(), strict=True):
        by_language[name].append(right)
    passing = [score >= params.min_score for name, _, score in judged if name not in params.keep]
    assert len(judged) >= 4_000
    assert len(by_language) >= 40
    assert is_right.mean() >= 0.98
    assert min(np.mean(rights) for rights in by_language.values()) >= 0.8
    assert np.mean(passing) <= 0.002
    assert np.mean([score >= params.min_score for name, _, score in judged if name in params.keep]) >= 0.9

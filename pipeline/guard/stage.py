"""Train the guard: a classifier of requests by the harm that they ask for, apart from the model that answers.

In: templates of wordings (data/seed/guard), our own conversations and the index for what is harmless, labeled files that people
bring, and the held-out messages of the evaluation, which are measured and never trained on. Out: `guard.json` and
`guard.safetensors` (the classifier), `calibration.json` and `reliability.svg` (how far its scores can be taken at their word),
`mistakes.jsonl` (the worst errors on unseen themes) and `rejects.parquet`. The folder travels in every registered version.

Each text is scored by a model that has not seen its theme; from these scores the calibration is fitted, and all metrics named
`unseen_theme` are measured. The classifier that is kept is trained on everything. Memory: 0.3 GB. Time: 15 CPU-s.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from model.guard.categories import CATEGORIES, NOT_HARM, OUTPUTS
from model.guard.harm_classifier import HarmClassifier, sum_weights
from model.guard.readings import fold_text
from model.guard.word_features import FeatureRows, make_features
from pipeline.frame.metrics import Metrics, write_json
from pipeline.guard.heldout_messages import read_heldout, score_heldout
from pipeline.guard.labeled_files import read_labeled
from pipeline.guard.logistic import train_logistic
from pipeline.guard.params import GuardSection
from pipeline.guard.reliability import (
    Sigmoid,
    calibrate_by_folds,
    draw_reliability,
    fit_sigmoid,
    make_reliability_table,
    measure_calibration,
)
from pipeline.guard.request_wordings import Wording, make_wordings
from pipeline.guard.theme_templates import read_phrasings, read_themes
from pipeline.guard.training_set import TrainingSet, make_training_set, read_messages, read_sentences
from pipeline.screening.license_policy import make_license_policy
from pipeline.storage.tables import REJECTS, write_table

N_MISTAKES = 40  # of each side, in mistakes.jsonl
THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def run(
    params: GuardSection,
    *,
    seeds: Path,
    labels: Path,
    conversations: Path,
    index: Path,
    turns: Path,
    out: Path,
) -> Metrics:
    """Train, calibrate, measure, write. Raises: `UserError` for templates, sources or inputs that can't be read."""
    wordings = make_wordings(
        read_themes(seeds), read_phrasings(seeds), params.n_wordings, params.frame_frac, params.seed
    )
    policy = make_license_policy(params.licenses) if params.licenses is not None else None
    labeled = read_labeled(params.sources, labels, policy)
    messages = read_messages(conversations, params.n_messages, params.seed)
    sentences = read_sentences(index, params.n_passages, params.seed)
    data = make_training_set(wordings, messages, sentences, labeled.texts, params.n_folds, params.seed)
    rows = make_features([fold_text(text) for text in data.texts])
    logits = score_folds(params, data, rows)
    classifier = fit_classifier(params, data, rows, logits)
    classifier.save(out)
    probabilities = calibrate_by_folds(logits[:, -1], data.labels[:, -1] == 1, data.folds)
    write_calibration(out, data, logits, probabilities)
    write_mistakes(out, data, probabilities)
    rejects = [reject._asdict() for reject in labeled.rejects]
    write_table(out / "rejects.parquet", pa.Table.from_pylist(rejects, schema=REJECTS))
    heldout = score_heldout(classifier, read_heldout(turns))
    return {
        "wordings": len(wordings),
        "wordings_harmful": sum(bool(each.category) for each in wordings),
        "themes": len({each.theme for each in wordings}),
        "messages": len(messages),
        "sentences": len(sentences),
        "labeled_texts": len(labeled.texts),
        "labeled_rejects": len(labeled.rejects),
        "texts": len(data.texts),
        **measure_unseen(data, probabilities, wordings),
        **heldout,
        "guard_bytes": sum(path.stat().st_size for path in out.iterdir()),
    }


def score_folds(params: GuardSection, data: TrainingSet, rows: FeatureRows) -> NDArray[np.float32]:
    """Return the raw outputs of all texts, each by a model that was trained without its fold."""
    logits = np.zeros(data.labels.shape, np.float32)
    for fold in range(params.n_folds):
        seen, own = np.flatnonzero(data.folds != fold), np.flatnonzero(data.folds == fold)
        trained = train_logistic(params.learning, rows.take(seen), data.labels[seen], data.weights[seen], params.seed)
        logits[own] = sum_weights(rows.take(own), trained.weights, trained.biases)
    return logits


def fit_classifier(
    params: GuardSection, data: TrainingSet, rows: FeatureRows, logits: NDArray[np.float32]
) -> HarmClassifier:
    """Return the classifier of all texts, with the calibration that the folds' outputs give."""
    trained = train_logistic(params.learning, rows, data.labels, data.weights, params.seed)
    sigmoids: list[Sigmoid] = []
    for column in range(len(OUTPUTS)):
        known = data.labels[:, column] >= 0
        sigmoids.append(fit_sigmoid(logits[known, column], data.labels[known, column] == 1))
    return HarmClassifier(
        OUTPUTS,
        trained.weights,
        trained.biases,
        np.array([each.slope for each in sigmoids], np.float32),
        np.array([each.offset for each in sigmoids], np.float32),
    )


def write_calibration(
    out: Path, data: TrainingSet, logits: NDArray[np.float32], probabilities: NDArray[np.float64]
) -> None:
    """Write the table of reliability of `harm`, what each threshold would catch, the error by category, and the picture."""
    is_harm = data.labels[:, -1] == 1
    table = make_reliability_table(probabilities, is_harm)
    error = measure_calibration(table)
    by_category: dict[str, float] = {}
    for column, name in enumerate(CATEGORIES):
        known = data.labels[:, column] >= 0
        own = calibrate_by_folds(logits[known, column], data.labels[known, column] == 1, data.folds[known])
        by_category[name] = round(measure_calibration(make_reliability_table(own, data.labels[known, column] == 1)), 4)
    caught = [
        {
            "threshold": threshold,
            "harmful_caught_frac": round(float((probabilities[is_harm] >= threshold).mean()), 4),
            "harmless_caught_frac": round(float((probabilities[~is_harm] >= threshold).mean()), 4),
        }
        for threshold in THRESHOLDS
    ]
    write_json(
        out / "calibration.json",
        {"reliability": table, "calibration_error": round(error, 4), "thresholds": caught, "by_category": by_category},
    )
    (out / "reliability.svg").write_text(draw_reliability(table, error), encoding="utf-8")


def write_mistakes(out: Path, data: TrainingSet, probabilities: NDArray[np.float64]) -> None:
    """Write the harmful texts with the lowest and the harmless ones with the highest scores, by models without their themes."""
    is_harm = data.labels[:, -1] == 1
    is_other = data.labels[:, : len(CATEGORIES)].max(axis=1) > 0  # of a category that is no harm
    order = np.argsort(probabilities, kind="stable")
    missed = [row for row in order.tolist() if is_harm[row]][:N_MISTAKES]
    refused = [row for row in order[::-1].tolist() if not is_harm[row] and not is_other[row]][:N_MISTAKES]
    lines = [
        {
            "is_harmful": bool(is_harm[row]),
            "score": round(float(probabilities[row]), 4),
            "group": data.groups[row],
            "text": data.texts[row],
        }
        for row in (*missed, *refused)
    ]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (out / "mistakes.jsonl").write_text(text, encoding="utf-8")


def measure_unseen(data: TrainingSet, probabilities: NDArray[np.float64], wordings: list[Wording]) -> Metrics:
    """Return what the scores of unseen themes are worth: of harm, of look-alikes, of other harmless texts."""
    harmful = {each.text for each in wordings if each.category and each.category not in NOT_HARM}
    mixed = {each.theme for each in wordings if each.category}
    lookalikes = {each.text for each in wordings if not each.category and each.theme in mixed}
    is_harm = data.labels[:, -1] == 1
    groups = {
        "unseen_theme_harm_flagged_frac": [text in harmful for text in data.texts],
        "unseen_theme_lookalikes_flagged_frac": [text in lookalikes for text in data.texts],
        "unseen_messages_flagged_frac": np.array([g == "messages" for g in data.groups]) & ~is_harm,
        "unseen_sentences_flagged_frac": [g == "sentences" for g in data.groups],
    }
    table = make_reliability_table(probabilities, is_harm)
    metrics: Metrics = {
        "unseen_theme_calibration_error": round(measure_calibration(table), 4),
        "unseen_theme_brier": round(float(((probabilities - is_harm) ** 2).mean()), 4),
    }
    for name, members in groups.items():
        chosen = probabilities[np.array(members, bool)]
        if len(chosen):
            metrics[name] = round(float((chosen >= 0.5).mean()), 4)
    return metrics

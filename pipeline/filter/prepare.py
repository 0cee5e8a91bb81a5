"""Prepare the files that the workers of the filter read: models, and n-grams of evaluation sets.

In: the section `filter` of params.yaml and the input folders of the stage. Out: files, each named for what it holds
(`language.bin`, `quality.bin`, `leaks.parquet`), and their metrics. Memory: the training lines of a model, the texts of the
evaluation sets.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from pipeline.filter.classifiers.language_training import train_language
from pipeline.filter.classifiers.quality import flatten_calibration
from pipeline.filter.classifiers.quality_training import train_quality
from pipeline.filter.params import Filter
from pipeline.frame.metrics import Metrics
from pipeline.screening.evaluation_sets import count_leak_ngrams, read_leaks, write_leaks


class Inputs(NamedTuple):
    """The stage's input folders: documents, sentences by language, evaluation sets, examples of the quality classifier."""

    docs: Path
    languages: Path
    sets: Path
    examples: Path


class Prepared(NamedTuple):
    """The files that a worker reads, and the metrics of these files."""

    files: list[Path]
    metrics: Metrics


def prepare_files(params: Filter, inputs: Inputs, scratch: Path, out: Path) -> Prepared:
    """Train or copy the models into `out` and index the evaluation sets in `scratch`."""
    files: list[Path] = []
    metrics: Metrics = {}
    if params.language.is_judged:
        files.append(out / "language.bin")
        accuracy, false_wanted = train_language(params.language, inputs.languages, inputs.examples, files[-1])
        metrics |= {"language_heldout_accuracy_frac": accuracy, "language_false_english_frac": false_wanted}
    if params.quality_classifier:
        files.append(out / "quality.bin")
        calibration = train_quality(params.quality_classifier, inputs.docs, inputs.examples, files[-1])
        metrics |= flatten_calibration(calibration)
    if params.decontamination:
        leaks = read_leaks(params.decontamination, inputs.sets)
        files.append(scratch / "leaks.parquet")
        write_leaks(files[-1], leaks)
        metrics |= count_leak_ngrams(leaks)
    return Prepared(files, metrics)

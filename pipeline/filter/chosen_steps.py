"""What the filter's params ask for: the files that workers need, and the steps that read them.

In: `filter` of params.yaml and the input folders of the stage. Out: files by name (a language model, a quality classifier,
n-grams of evaluation sets), metrics of them, and the steps in the order in which they run. The steps themselves are in
text/steps.py.
Memory: the training lines of a model, the texts of the evaluation sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.filter import steps
from pipeline.filter.classifiers.language_training import judge_texts, train_language
from pipeline.filter.classifiers.quality import SCORE as QUALITY_SCORE
from pipeline.filter.classifiers.quality import calibration_metrics, quality_rule
from pipeline.filter.classifiers.quality_training import score_texts, train_quality
from pipeline.filter.contamination_sets import leak_metrics, load_leaks, read_leaks, write_leaks
from pipeline.filter.decisions import FilterStep, Rule
from pipeline.filter.licenses import LicensePolicy, make_policy, merge_violations, refuse, violations
from pipeline.filter.params import Filter, Licenses
from pipeline.frame.metrics import Metrics
from pipeline.storage.tables import read_shard


class Inputs(NamedTuple):
    """The stage's input folders: documents, sentences by language, evaluation sets, examples of the quality classifier."""

    docs: Path
    languages: Path
    sets: Path
    examples: Path


class Prepared(NamedTuple):
    """Files that a worker reads, each named by what it holds (`language.bin`), and figures for the metrics."""

    files: list[Path]
    metrics: Metrics


def prepare(params: Filter, inputs: Inputs, scratch: Path, out: Path) -> Prepared:
    """Train or copy the models into `out`, read the evaluation sets."""
    files = [out / "language.bin"]
    accuracy, false_wanted = train_language(params.language, inputs.languages, inputs.examples, files[0])
    metrics: Metrics = {"language_heldout_accuracy_frac": accuracy, "language_false_english_frac": false_wanted}
    if params.quality_classifier:
        files.append(out / "quality.bin")
        calibration = train_quality(params.quality_classifier, inputs.docs, inputs.examples, files[-1])
        metrics |= calibration_metrics(calibration)
    if params.decontamination:
        leaks = read_leaks(params.decontamination, inputs.sets)
        files.append(scratch / "leaks.parquet")
        write_leaks(files[-1], leaks)
        metrics |= leak_metrics(leaks)
    return Prepared(files, metrics)


def list_steps(params: Filter, files: Iterable[Path]) -> list[FilterStep]:
    """Every part of the filter that the params ask for, in the order in which they are asked: a new one is one line here."""
    file = {path.stem: path for path in files}
    language, quality, repeated = params.language, params.gopher_quality, params.gopher_repetition
    c4, fineweb, classifier, leaks = params.c4, params.fineweb, params.quality_classifier, params.decontamination
    wanted = [
        steps.license(policy(params.licenses)),
        steps.language(partial(judge_texts, language, file["language"]), language.min_score),
        leaks and steps.decontamination(partial(load_leaks, file["leaks"]), leaks.max_overlap_ngrams),
        steps.gopher(quality and quality.model_dump(), repeated and repeated.model_dump()),
        steps.web(c4 and c4.model_dump(), fineweb and fineweb.model_dump()),
        classifier
        and steps.quality_classifier(partial(score_texts, classifier, file["quality"]), classifier.min_score),
        params.pii and steps.pii(params.pii.kinds),
    ]
    return [step for step in wanted if step]


def settle(rules: Sequence[Rule], params: Filter, scored: Sequence[Path]) -> list[Rule]:
    """The rules with the one threshold that only all scores can give: that of `keep_frac`. Memory: 8 bytes a document."""
    classifier = params.quality_classifier
    if classifier is None or classifier.keep_frac is None:
        return list(rules)
    columns = [batch.column(0).to_numpy() for path in scored for batch in read_shard(path, [QUALITY_SCORE])]
    found = quality_rule(np.concatenate([np.zeros(0), *columns]), None, classifier.keep_frac)
    return [rule._replace(threshold=found.threshold) if rule.score == found.score else rule for rule in rules]


def threshold_metrics(rules: Sequence[Rule]) -> Metrics:
    """The classifier's threshold as it was in the end: given, or found by `settle`."""
    found = [rule.threshold for rule in rules if rule.score == QUALITY_SCORE]
    return {"quality_min_score": found[0]} if found else {}


def write_rules(path: Path, rules: Sequence[Rule]) -> None:
    """For whoever tries other thresholds on the stored scores."""
    path.write_text(json.dumps([rule._asdict() for rule in rules], indent=2) + "\n", encoding="utf-8")


def policy(params: Licenses) -> LicensePolicy:
    return make_policy(params.allow, params.deny, is_unknown_kept=params.unknown == "keep")


def check_licenses(params: Licenses, paths: Sequence[Path]) -> None:
    """Raises `UserError` (exit code 1) for documents that `on_violation: stop` or `unknown: stop` do not let through."""
    stops = {"license_unknown": params.unknown == "stop"}
    if params.on_violation == "drop" and not any(stops.values()):
        return
    found = merge_violations(
        violation
        for path in paths
        for batch in read_shard(path, ["id", "license"])
        for violation in violations(batch.column("id"), batch.column("license"), policy(params))
    )
    refuse(each for each in found if stops.get(each.reason, params.on_violation == "stop"))

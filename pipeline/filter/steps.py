"""The steps of the filter in the order in which they run: how each scores a batch of documents, and which rules judge its scores.

In: the section `filter` of params.yaml, and the files that workers read (pipeline/filter/prepare.py). Out: one `FilterStep` per
part of the filter that the params turn on. pipeline/filter/decisions.py runs the steps and applies their rules; the definitions
and papers are in the modules called here and in docs/filters.md. `list_steps` is where a new rule is added.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from model.masking.find_personal import Options
from model.masking.phones import PHONE_REGIONS, find_unknown_regions
from pipeline.filter.classifiers.language import Judgment
from pipeline.filter.classifiers.language_training import judge_texts
from pipeline.filter.classifiers.quality import SCORE as QUALITY_SCORE
from pipeline.filter.classifiers.quality_training import score_texts
from pipeline.filter.decisions import CHANGED, FilterStep, Rule, Scored, list_rules
from pipeline.filter.licenses import RULES as LICENSE_RULES
from pipeline.filter.licenses import measure_licenses
from pipeline.filter.params import Filter, Pii
from pipeline.filter.pii.redact import redact
from pipeline.filter.rules.c4 import Lines, clean_lines
from pipeline.filter.rules.fineweb import measure_fineweb
from pipeline.filter.rules.gopher import measure_gopher
from pipeline.frame.errors import UserError
from pipeline.screening.contamination import Leaks, measure_overlap
from pipeline.screening.evaluation_sets import load_leaks
from pipeline.screening.license_policy import LicensePolicy, make_license_policy
from pipeline.screening.match_words import extract_match_words
from pipeline.text.columns import Fractions

C4_RULES = ("max_lorem_ipsum_lines", "max_curly_bracket_lines", "min_sentences")


def list_steps(params: Filter, files: Iterable[Path]) -> list[FilterStep]:
    """Return the steps that the params turn on, in the order in which they run.

    A new rule `max_url_frac` is one line here: `make_rule_step({"max_url_frac": params.max_url_frac}, measure_urls)`.
    """
    file = {path.stem: path for path in files}
    language, quality, repetition = params.language, params.gopher_quality, params.gopher_repetition
    c4, fineweb, classifier, leaks = params.c4, params.fineweb, params.quality_classifier, params.decontamination
    steps = [
        make_license_step(make_license_policy(params.licenses)),
        make_language_step(partial(judge_texts, language, file["language"]), language.min_score)
        if language.is_judged
        else None,
        leaks and make_decontamination_step(partial(load_leaks, file["leaks"]), leaks.max_overlap_ngrams),
        make_gopher_step(quality and quality.model_dump(), repetition and repetition.model_dump()),
        make_web_step(c4 and c4.model_dump(), fineweb and fineweb.model_dump()),
        classifier and make_quality_step(partial(score_texts, classifier, file["quality"]), classifier.min_score),
        params.pii and make_pii_step(params.pii),
    ]
    return [step for step in steps if step]


def make_rule_step(
    thresholds: Mapping[str, Any], measure: Callable[[pa.StringArray], pa.RecordBatch], section: str = "filter"
) -> FilterStep | None:
    """Return a step that scores texts and leaves them unchanged, or None if no threshold is set.

    `measure` returns one column per threshold, named like the threshold without `min_` or `max_`.
    """
    rules = list_rules(section, thresholds)
    return _make_scoring_step(rules, measure) if rules else None


def _make_scoring_step(rules: Sequence[Rule], measure: Callable[[pa.StringArray], pa.RecordBatch]) -> FilterStep:
    """Return a step that needs nothing but the texts and leaves them unchanged."""

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        return Scored(texts, measure(texts))

    return FilterStep(rules, score)


def make_language_step(judge: Callable[[pa.StringArray], Judgment], min_score: float) -> FilterStep:
    """Return the step that drops documents whose probability of being in a wanted language is below `min_score`."""

    def measure(texts: pa.StringArray) -> pa.RecordBatch:
        judgment = judge(texts)
        return pa.record_batch({"language": judgment.language, "language_score": pa.array(judgment.score)})

    rule = Rule("language", "language_score", "min", min_score, "filter.language.min_score")
    return _make_scoring_step([rule], measure)


def make_quality_step(score_texts: Callable[[pa.StringArray], Fractions], min_score: float | None) -> FilterStep:
    """Return the step that scores similarity to the positive examples (Li et al. 2024).

    Without `min_score` the threshold is 0 until `resolve_keep_frac` derives it from all scores.
    """
    name = "min_score" if min_score is not None else "keep_frac"
    rule = Rule("quality_classifier", QUALITY_SCORE, "min", min_score or 0.0, f"filter.quality_classifier.{name}")
    return _make_scoring_step([rule], lambda texts: pa.record_batch({QUALITY_SCORE: pa.array(score_texts(texts))}))


def make_gopher_step(quality: Mapping[str, Any] | None, repetition: Mapping[str, Any] | None) -> FilterStep | None:
    """Return the step of Rae et al. 2021: rules on quality, on repetition, or both, sharing one tokenization."""
    repeated = dict(repetition or {})
    from_count: int = repeated.pop("top_ngram_from_count", 1)
    top, dup = (sorted(repeated.get(f"max_{kind}_ngram_char_frac", {})) for kind in ("top", "dup"))
    rules = [*list_rules("filter.gopher_quality", quality or {}), *list_rules("filter.gopher_repetition", repeated)]
    names = list(dict.fromkeys(each.score for each in rules))  # two rules may judge one score
    if not rules:
        return None
    return _make_scoring_step(rules, lambda texts: measure_gopher(texts, top, dup, from_count).select(names))


def make_web_step(c4: Mapping[str, Any] | None, fineweb: Mapping[str, Any] | None) -> FilterStep | None:
    """Return the step that cleans lines and judges the document by C4's rules (Raffel et al. 2020), then applies FineWeb's
    rules (Penedo et al. 2024) to the lines that are left."""
    cleaning, judging = dict(c4 or {}), dict(fineweb or {})
    lines = Lines(**{name: cleaning[name] for name in Lines._fields if c4})
    short_line_chars: int = judging.pop("short_line_chars", 0)
    thresholds = {name: cleaning.get(name) for name in C4_RULES}
    rules = [*list_rules("filter.c4", thresholds), *list_rules("filter.fineweb", judging)]

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        columns: dict[str, pa.Array] = {}
        if c4:
            texts, scores = clean_lines(texts, lines)
            columns |= zip(scores.schema.names, scores.columns, strict=True)
        if fineweb:
            scores = measure_fineweb(texts, short_line_chars, columns.get("words_left"))
            columns |= zip(scores.schema.names, scores.columns, strict=True)
        return Scored(texts, pa.record_batch(columns))

    return FilterStep(rules, score) if c4 or fineweb else None


def make_license_step(policy: LicensePolicy) -> FilterStep:
    """Return the step that checks SPDX expressions against the allowed and denied ids."""

    def score(texts: pa.StringArray, batch: pa.RecordBatch) -> Scored:
        return Scored(texts, measure_licenses(batch.column("license"), policy))

    return FilterStep(LICENSE_RULES, score)


def make_overlap_rule(max_overlap_ngrams: int) -> Rule:
    """Return the rule on the scores of `measure_overlap`. The ledger's `other_id` is `leak_item`."""
    param = "filter.decontamination.max_overlap_ngrams"
    return Rule("contaminated", "leak_ngrams", "max", float(max_overlap_ngrams), param, "leak_item")


def make_decontamination_step(load: Callable[[], Leaks], max_overlap_ngrams: int) -> FilterStep:
    """Return the step that counts n-grams shared with evaluation sets (Brown et al. 2020).

    It reads the documents as the stage received them. The ledger's `other_id` is the first evaluation item found.
    """

    def score(texts: pa.StringArray, batch: pa.RecordBatch) -> Scored:
        return Scored(texts, measure_overlap(extract_match_words(batch.column("text")), load()))

    return FilterStep([make_overlap_rule(max_overlap_ngrams)], score)


def make_pii_step(params: Pii) -> FilterStep:
    """Return the step that replaces personal data and secrets by placeholders; it runs last, so no other step sees these."""
    regions = PHONE_REGIONS if params.phone_regions is None else tuple(params.phone_regions)
    unknown = find_unknown_regions(regions)
    if unknown:
        raise UserError(
            "filter.pii.phone_regions: no such region", ", ".join(unknown), "use ISO 3166 codes, such as GB"
        )
    options = Options(regions, params.only_public_ips)

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        redacted = redact(texts, params.kinds, options)
        names = [CHANGED + name for name in redacted.counts.schema.names]
        return Scored(redacted.texts, redacted.counts.rename_columns(names))

    return FilterStep([], score)

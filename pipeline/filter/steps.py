"""The parts of the filter as steps: what each asks of a batch of documents, and the rules that its figures can break.

In: thresholds as the params name them. Out: a `FilterStep` each, which scores texts column by column (pipeline/filter/decisions.py says how
they are run and decided on). The definitions and papers are in the modules that are called here, and in docs/filters.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.filter.classifiers.language import Judgement
from pipeline.filter.classifiers.quality import SCORE as QUALITY_SCORE
from pipeline.filter.contamination import Leaks, overlap
from pipeline.filter.contamination import rules as leak_rules
from pipeline.filter.decisions import CHANGED, FilterStep, Rule, Scored, list_rules
from pipeline.filter.licenses import RULES as LICENSE_RULES
from pipeline.filter.licenses import LicensePolicy, license_figures
from pipeline.filter.pii.redact import redact
from pipeline.filter.rules import c4 as cleaning
from pipeline.filter.rules.fineweb import fineweb
from pipeline.filter.rules.gopher import gopher as measure_gopher
from pipeline.text.columns import Fractions
from pipeline.text.normalize import fold, split_words

C4_RULES = ("max_lorem_ipsum_lines", "max_curly_bracket_lines", "min_sentences")


def language(judge: Callable[[pa.StringArray], Judgement], min_score: float) -> FilterStep:
    """The probability that a document is in one of the wanted languages."""

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        found = judge(texts)
        return Scored(texts, pa.record_batch({"language": found.language, "language_score": pa.array(found.score)}))

    return FilterStep([Rule("language", "language_score", "min", min_score, "filter.language.min_score")], score)


def quality_classifier(score_texts: Callable[[pa.StringArray], Fractions], min_score: float | None) -> FilterStep:
    """How much a text is like the positives (Li et al. 2024). No `min_score`: the share to keep gives it in the end."""
    name = "min_score" if min_score is not None else "keep_frac"
    rule = Rule("quality_classifier", QUALITY_SCORE, "min", min_score or 0.0, f"filter.quality_classifier.{name}")

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        return Scored(texts, pa.record_batch({QUALITY_SCORE: pa.array(score_texts(texts))}))

    return FilterStep([rule], score)


def gopher(on_quality: Mapping[str, Any] | None, on_repetition: Mapping[str, Any] | None) -> FilterStep | None:
    """Rae et al. 2021: the rules on quality, on repetition, or both, from one cut into words."""
    repeated = dict(on_repetition or {})
    from_count: int = repeated.pop("top_ngram_from_count", 1)
    top, dup = (sorted(repeated.get(f"max_{kind}_ngram_char_frac", {})) for kind in ("top", "dup"))
    rules = [*list_rules("filter.gopher_quality", on_quality or {}), *list_rules("filter.gopher_repetition", repeated)]
    names = list(dict.fromkeys(each.score for each in rules))  # two rules may judge one score

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        return Scored(texts, measure_gopher(texts, top, dup, from_count).select(names))

    return FilterStep(rules, score) if rules else None


def web(on_c4: Mapping[str, Any] | None, on_fineweb: Mapping[str, Any] | None) -> FilterStep | None:
    """Raffel et al. 2020: lines are cleaned, then the rules of the document; Penedo et al. 2024, on the lines that are left."""
    cleaned, judged = dict(on_c4 or {}), dict(on_fineweb or {})
    lines = cleaning.Lines(**{name: cleaned[name] for name in cleaning.Lines._fields if on_c4})
    short_line_chars: int = judged.pop("short_line_chars", 0)
    thresholds = {name: cleaned[name] for name in C4_RULES if cleaned.get(name) is not None}
    rules = [*list_rules("filter.c4", thresholds), *list_rules("filter.fineweb", judged)]

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        columns: dict[str, pa.Array] = {}
        if on_c4:
            texts, found = cleaning.clean(texts, lines)
            columns |= zip(found.schema.names, found.columns, strict=True)
        if on_fineweb:
            found = fineweb(texts, short_line_chars, columns.get("words_left"))
            columns |= zip(found.schema.names, found.columns, strict=True)
        return Scored(texts, pa.record_batch(columns))

    return FilterStep(rules, score) if on_c4 or on_fineweb else None


def license(policy: LicensePolicy) -> FilterStep:
    """SPDX expressions against lists of allowed and denied ids."""

    def score(texts: pa.StringArray, batch: pa.RecordBatch) -> Scored:
        return Scored(texts, license_figures(batch.column("license"), policy))

    return FilterStep([each._replace(param="filter.licenses") for each in LICENSE_RULES], score)


def decontamination(load: Callable[[], Leaks], max_overlap_ngrams: int) -> FilterStep:
    """Brown et al. 2020: n words in a row of an evaluation set. The set and item found first stand in for the document."""
    rules = [
        each._replace(param="filter.decontamination.max_overlap_ngrams", other="leak_item")
        for each in leak_rules(max_overlap_ngrams)
    ]

    def score(texts: pa.StringArray, batch: pa.RecordBatch) -> Scored:
        return Scored(texts, overlap(split_words(fold(batch.column("text"))), load()))

    return FilterStep(rules, score)


def pii(kinds: Sequence[str]) -> FilterStep:
    """Personal data and secrets become placeholders: the last step, so that no other sees them."""

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        found = redact(texts, kinds)
        return Scored(found.texts, found.counts.rename_columns([CHANGED + name for name in found.counts.schema.names]))

    return FilterStep([], score)

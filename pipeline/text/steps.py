"""The parts of the filter as steps: what each asks of a batch of documents, and the rules that its figures can break.

In: thresholds as the params name them. Out: a `Step` each, which scores texts column by column (pipeline/text/rules.py says how
they are run and decided on). The definitions and papers are in the modules that are called here, and in docs/filters.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipeline.text import c4 as cleaning
from pipeline.text import language as languages
from pipeline.text.fineweb import fineweb as measure_fineweb
from pipeline.text.gopher import gopher as measure_gopher
from pipeline.text.licences import allowed_frac
from pipeline.text.rules import Rule, Scored, Step, list_rules

C4_RULES = ("max_lorem_ipsum_lines", "max_curly_bracket_lines", "min_sentences")


def language(load: Callable[[], languages.Model], keep: Sequence[str], min_score: float) -> Step:
    """The probability that a document is in one of the wanted languages. `load` is called when a batch comes."""

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        found = languages.judge(load(), languages.prose(texts), keep)
        columns = {"language": found.language, "language_score": pa.array(found.score)}
        return Scored(texts, pa.record_batch(columns))

    return Step([Rule("language", "language_score", "min", min_score, "filter.language.min_score")], score)


def gopher(on_quality: Mapping[str, Any] | None, on_repetition: Mapping[str, Any] | None) -> Step | None:
    """Rae et al. 2021: the rules on quality, on repetition, or both, from one cut into words."""
    repeated = dict(on_repetition or {})
    from_count: int = repeated.pop("top_ngram_from_count", 1)
    top, dup = (sorted(repeated.get(f"max_{kind}_ngram_char_frac", {})) for kind in ("top", "dup"))
    rules = [*list_rules("filter.gopher_quality", on_quality or {}), *list_rules("filter.gopher_repetition", repeated)]
    names = list(dict.fromkeys(each.score for each in rules))  # two rules may judge one score

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        return Scored(texts, measure_gopher(texts, top, dup, from_count).select(names))

    return Step(rules, score) if rules else None


def c4(settings: Mapping[str, Any]) -> Step:
    """Raffel et al. 2020: lines are cleaned, then the rules of the document."""
    lines = cleaning.Lines(**{name: settings[name] for name in cleaning.Lines._fields})
    thresholds = {name: settings[name] for name in C4_RULES if settings[name] is not None}
    return Step(list_rules("filter.c4", thresholds), lambda texts, _batch: cleaning.clean(texts, lines))


def fineweb(settings: Mapping[str, Any]) -> Step:
    """Penedo et al. 2024, on the texts as the steps before have left them."""
    thresholds = dict(settings)
    short_line_chars: int = thresholds.pop("short_line_chars")

    def score(texts: pa.StringArray, _batch: pa.RecordBatch) -> Scored:
        return Scored(texts, measure_fineweb(texts, short_line_chars))

    return Step(list_rules("filter.fineweb", thresholds), score)


def licence(allowed: Sequence[str]) -> Step:
    """SPDX expressions against a list of allowed ids."""

    def score(texts: pa.StringArray, batch: pa.RecordBatch) -> Scored:
        verdicts = pa.array(allowed_frac(batch.column("licence"), allowed))
        return Scored(texts, pa.record_batch({"licence_allowed": verdicts}))

    return Step([Rule("licence", "licence_allowed", "min", 1.0, "filter.licences")], score)

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
from pipeline.text.fineweb import fineweb
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


def web(on_c4: Mapping[str, Any] | None, on_fineweb: Mapping[str, Any] | None) -> Step | None:
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

    return Step(rules, score) if on_c4 or on_fineweb else None


def licence(allowed: Sequence[str]) -> Step:
    """SPDX expressions against a list of allowed ids."""

    def score(texts: pa.StringArray, batch: pa.RecordBatch) -> Scored:
        verdicts = pa.array(allowed_frac(batch.column("licence"), allowed))
        return Scored(texts, pa.record_batch({"licence_allowed": verdicts}))

    return Step([Rule("licence", "licence_allowed", "min", 1.0, "filter.licences")], score)

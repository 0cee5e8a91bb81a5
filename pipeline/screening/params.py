"""Settings of `filter` and `conversations` that say what must not be trained on: licenses and evaluation sets."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.frame.settings import InputPath, ParamsSection


class Licenses(ParamsSection):
    """SPDX ids in any spelling, `*` at the end for a family. A plain list is `allow`; "unknown" in it means `unknown: keep`."""

    allow: list[str] = []  # empty: everything that is not denied
    deny: list[str] = []  # takes precedence over allow; the other part of an OR may still be allowed
    unknown: Literal["drop", "keep", "stop"] = "drop"  # documents without a known license
    on_violation: Literal["drop", "stop"] = "drop"  # stop: the stage fails and lists the documents

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        """Return a plain list as the section that it stands for."""
        if not isinstance(value, list):
            return value
        names: list[Any] = value
        return {"allow": names, "unknown": "keep" if "unknown" in names else "drop"}

    @model_validator(mode="after")
    def _check_unambiguous(self) -> Licenses:
        if not self.allow and not self.deny:
            raise ValueError("neither allow nor deny lists a license; list some, or set allow: ['*']")
        if "unknown" in self.deny or ("unknown" in self.allow and self.unknown != "keep"):
            raise ValueError("unknown in a list contradicts the setting unknown; set unknown: drop, keep or stop")
        return self


class EvaluationSet(ParamsSection):
    """Texts that must not be trained on: named fields of JSON, CSV, Parquet or Arrow, or lines of `.txt`, also compressed."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # appears in metrics and in the ledger
    path: InputPath  # a file, a folder or a glob below --sets
    fields: list[str] = []  # dotted names (`choices.text`); each text in a list is its own item


class Decontamination(ParamsSection):
    """Brown et al. 2020 (GPT-3), appendix C: no document may share n words in a row with an evaluation set."""

    ngram_words: Annotated[int, Field(ge=5, le=50)] = 13
    min_words: Annotated[int, Field(ge=3, le=50)] = (
        8  # a shorter item is not matched; up to ngram_words, the whole item is
    )
    max_overlap_ngrams: Annotated[int, Field(ge=0)] = 0  # n-grams of evaluation sets that a document may contain
    sets: Annotated[list[EvaluationSet], Field(min_length=1)]

    @model_validator(mode="after")
    def _check_unique_names(self) -> Decontamination:
        names = [each.name for each in self.sets]
        if len(set(names)) < len(names):
            raise ValueError("two sets have the same name")
        return self

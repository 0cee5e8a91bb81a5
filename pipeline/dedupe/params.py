"""Settings of `dedupe` in params.yaml (docs/incremental.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, NgramWords, Section, Seed

RUN_NAME = r"^\w[\w.-]{0,99}$"
RunName = Annotated[str, Field(pattern=RUN_NAME)]


class NearIndex(Section):
    """What earlier runs kept: a document that says the same as one of theirs is dropped, and theirs is named."""

    place: Annotated[str, Field(min_length=1)]  # the folder of the index
    runs: Literal["all"] | Annotated[list[RunName], Field(min_length=1)]  # names give the same bytes again, "all" grows


class Repeats(Section):
    """Lines or paragraphs that many documents share: they stay in the best document only."""

    min_chars: Count  # shorter ones stay everywhere ("}", "Example")
    max_docs: Count  # as many documents may hold it


class Dedupe(Section):
    """Bands and rows are given, or follow from `n_permutations`: the most rows that find `min_recall` at `min_jaccard`."""

    seed: Seed
    ngram_words: NgramWords
    n_bands: Annotated[int, Field(ge=1, le=512)]
    n_rows: Annotated[int, Field(ge=1, le=64)]
    n_permutations: Annotated[int | None, Field(ge=2, le=1_024)] = None
    min_recall: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    min_jaccard: Annotated[float, Field(gt=0.0, le=1.0)]  # a verified pair at or above it is a duplicate
    source_priority: list[str]  # prefixes of `source`; the first one listed survives
    paragraphs: Repeats | None = None  # null: they are left alone
    lines: Repeats | None = None
    min_chars_left: Annotated[int, Field(ge=0)] = 1  # of a document that has lost some; with less it goes
    index: NearIndex | None = None  # of what earlier runs kept: documents near to it are dropped
    memory_mb: Count = 1_000  # that sorting and comparing may hold; files below scratch/ hold the rest

    @model_validator(mode="before")
    @classmethod
    def bands_follow(cls, values: Any) -> Any:
        """Fills `n_bands` and `n_rows` in where only `n_permutations` is given."""
        if not isinstance(values, dict) or not isinstance(values.get("n_permutations"), int):
            return values
        given: dict[str, Any] = values
        min_jaccard, min_recall = given.get("min_jaccard"), given.get("min_recall", 0.95)
        if not isinstance(min_jaccard, float) or not isinstance(min_recall, float):
            return given  # refused below, by name
        n_bands, n_rows = bands_for(given["n_permutations"], min_jaccard, min_recall)
        if (given.get("n_bands", n_bands), given.get("n_rows", n_rows)) != (n_bands, n_rows):
            raise ValueError("give n_permutations, or n_bands and n_rows, not both")
        return {**given, "n_bands": n_bands, "n_rows": n_rows}


def bands_for(n_permutations: int, min_jaccard: float, min_recall: float) -> tuple[int, int]:
    """Bands and rows for LSH: the most rows (the fewest false candidates) with which a pair of similarity `min_jaccard` shares
    a band with a chance of `min_recall`, 1 - (1 - j^rows)^bands; one row where even that is too much to ask. Leskovec,
    Rajaraman, Ullman, Mining of Massive Datasets, 3.4."""
    for n_rows in range(min(n_permutations, 64), 1, -1):
        n_bands = min(512, n_permutations // n_rows)
        if 1 - (1 - min_jaccard**n_rows) ** n_bands >= min_recall:
            return n_bands, n_rows
    return min(512, n_permutations), 1

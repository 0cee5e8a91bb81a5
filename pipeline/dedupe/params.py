"""Define the settings of `dedupe` in params.yaml (docs/incremental.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, NgramWords, ParamsSection, Seed

RUN_NAME = r"^\w[\w.-]{0,99}$"
RunName = Annotated[str, Field(pattern=RUN_NAME)]


class NearIndex(ParamsSection):
    """Compare documents with those that earlier runs kept: a duplicate of one of these is dropped, and the ledger names the earlier
    one."""

    place: Annotated[str, Field(min_length=1)]  # the folder of the index
    runs: (
        Literal["all"] | Annotated[list[RunName], Field(min_length=1)]
    )  # named runs give reproducible bytes; "all" grows with the index


class Repeats(ParamsSection):
    """Keep lines or paragraphs that many documents share in the best of these documents only."""

    min_chars: Count  # shorter ones are kept everywhere ("}", "Example")
    max_docs: Count  # the most documents that may contain it


class Dedupe(ParamsSection):
    """Set bands and rows of LSH directly, or by `n_permutations`: then the most rows that reach `min_recall` at `min_jaccard`."""

    seed: Seed
    ngram_words: NgramWords
    n_bands: Annotated[int, Field(ge=1, le=512)]
    n_rows: Annotated[int, Field(ge=1, le=64)]
    n_permutations: Annotated[int | None, Field(ge=2, le=1_024)] = None
    min_recall: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    min_jaccard: Annotated[float, Field(gt=0.0, le=1.0)]  # verified pairs at or above it are duplicates
    source_priority: list[str]  # prefixes of `source`; the first one listed survives
    search_sources: list[str] = []  # prefixes of `source`: their duplicates under another title remain, for search only
    paragraphs: Repeats | None = None  # null: paragraphs are not compared
    lines: Repeats | None = None
    min_chars_left: Annotated[int, Field(ge=0)] = 1  # of a document that has lost pieces; it is dropped below that
    index: NearIndex | None = None  # of documents that earlier runs kept; their duplicates are dropped
    memory_mb: Count = 1_000  # for sorting and comparing; the rest is in files below scratch/

    @model_validator(mode="before")
    @classmethod
    def derive_bands(cls, values: Any) -> Any:
        """Set `n_bands` and `n_rows` if only `n_permutations` is given."""
        if not isinstance(values, dict) or not isinstance(values.get("n_permutations"), int):
            return values
        given: dict[str, Any] = values
        min_jaccard, min_recall = given.get("min_jaccard"), given.get("min_recall", 0.95)
        if not isinstance(min_jaccard, float) or not isinstance(min_recall, float):
            return given  # validation reports it by name
        n_bands, n_rows = choose_bands(given["n_permutations"], min_jaccard, min_recall)
        if (given.get("n_bands", n_bands), given.get("n_rows", n_rows)) != (n_bands, n_rows):
            raise ValueError("give n_permutations, or n_bands and n_rows, not both")
        return {**given, "n_bands": n_bands, "n_rows": n_rows}


def choose_bands(n_permutations: int, min_jaccard: float, min_recall: float) -> tuple[int, int]:
    """Return (bands, rows) for LSH: the most rows (the fewest false candidates) with which a pair of similarity `min_jaccard`
    shares a band with a probability of at least `min_recall`, 1 - (1 - j^rows)^bands; one row if no larger number reaches that.
    Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, 3.4."""
    for n_rows in range(min(n_permutations, 64), 1, -1):
        n_bands = min(512, n_permutations // n_rows)
        if 1 - (1 - min_jaccard**n_rows) ** n_bands >= min_recall:
            return n_bands, n_rows
    return min(512, n_permutations), 1

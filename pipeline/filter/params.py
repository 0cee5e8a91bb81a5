"""Settings of `filter` in params.yaml: thresholds are named for the side that is kept (docs/filters.md)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, InputPath, NgramWords, Section, Seed


class ModelFile(Section):
    """A third-party model: its file, and the hash that this must have."""

    path: InputPath  # below --examples
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Language(Section):
    """fastText on character n-grams, trained here on data/seed/languages, or a fastText model of others."""

    keep: Annotated[list[str], Field(min_length=1)]
    min_score: Frac
    seed: Seed
    min_char_ngram: Annotated[int, Field(ge=1, le=8)]
    max_char_ngram: Annotated[int, Field(ge=1, le=8)]
    dim: Annotated[int, Field(ge=4, le=512)]
    n_buckets: Annotated[int, Field(ge=1_000)]
    learning_rate: Annotated[float, Field(gt=0.0, le=5.0)]
    n_epochs: Count
    n_spans: Annotated[int, Field(ge=0, le=100)]  # short pieces that each sentence lends: short texts are judged too
    n_mixed: Annotated[int, Field(ge=0, le=100)]  # copies of each foreign sentence with kept words inside
    keep_weight: Annotated[int, Field(ge=1, le=100)]  # how often the kept languages' sentences are shown
    max_prose_bytes: Annotated[int, Field(ge=200)] = (
        4_000  # a longer document is judged by about so much of its prose, from its beginning
    )
    model: ModelFile | None = (
        None  # lid.176, say, instead of one trained here: then all from `seed` to `keep_weight` is unused
    )


class ExampleFiles(Section):
    """Example texts in files: `.jsonl .ndjson .parquet` (one per row) or `.txt` (one per file), also compressed."""

    path: InputPath  # a file, a folder or a glob below --examples
    text_column: Annotated[str, Field(min_length=1)] = (
        "text"  # of JSON lines and Parquet; `meta.text`: the field inside meta
    )
    split_on: str = ""  # cut a .txt file into texts at this separator


class Examples(Section):
    """Texts that show one side of a question: documents of the corpus by their source, and files that are not in it."""

    sources: list[str] = []  # prefixes of `source`; "" is every document
    files: list[ExampleFiles] = []

    @model_validator(mode="after")
    def are_some(self) -> Examples:
        if not self.sources and not self.files:
            raise ValueError("name sources of the corpus, or files")
        return self


class QualityClassifier(Section):
    """fastText on words and their n-grams, trained here: texts like the positives stay (DCLM, Li et al. 2024)."""

    positives: Examples
    negatives: Examples  # a document that both name is a positive
    min_score: Frac | None = None  # either this threshold, or …
    keep_frac: Annotated[float, Field(gt=0.0, le=1.0)] | None = (
        None  # … the best-scored share of all documents (DCLM: 0.1)
    )
    seed: Seed = 1
    word_ngrams: Annotated[int, Field(ge=1, le=5)] = 2
    dim: Annotated[int, Field(ge=1, le=512)] = 100
    n_buckets: Annotated[int, Field(ge=1_000)] = 200_000  # of word n-grams: 4 bytes x dim each while it is trained
    learning_rate: Annotated[float, Field(gt=0.0, le=5.0)] = 0.1
    n_epochs: Count = 5
    min_word_count: Count = 1  # a rarer word of the examples gets no row
    max_docs: Count = 200_000  # of each side, drawn by a hash of the text
    max_chars: Annotated[int, Field(ge=100)] = 10_000  # a longer text is judged by its beginning

    @model_validator(mode="after")
    def one_threshold(self) -> QualityClassifier:
        if (self.min_score is None) == (self.keep_frac is None):
            raise ValueError("give either min_score or keep_frac")
        return self


class GopherQuality(Section):
    """Rae et al. 2021, table A1."""

    min_words: Annotated[int, Field(ge=0)]
    max_words: Count
    min_mean_word_chars: Annotated[float, Field(ge=0)]
    max_mean_word_chars: Annotated[float, Field(gt=0)]
    max_symbol_word_frac: Annotated[float, Field(ge=0)]
    max_bullet_line_frac: Frac
    max_ellipsis_line_frac: Frac
    min_alpha_word_frac: Frac
    min_stop_words: Annotated[int, Field(ge=0, le=8)]


class GopherRepetition(Section):
    """Rae et al. 2021, table A1. Fractions of lines, paragraphs, characters that are repeated."""

    max_dup_line_frac: Frac
    max_dup_paragraph_frac: Frac
    max_dup_line_char_frac: Frac
    max_dup_paragraph_char_frac: Frac
    max_top_ngram_char_frac: dict[NgramWords, Frac]  # n of words → most characters that the commonest n-gram may take
    top_ngram_from_count: Count = (
        1  # an n-gram that occurs less often is no commonest one; at 1 every short text has one
    )
    max_dup_ngram_char_frac: dict[NgramWords, Frac]  # n of words → most characters in n-grams that occur more than once


class C4(Section):
    """Raffel et al. 2020, section 2.2. Lines that break a rule go, then the document is judged. FineWeb: no terminal marks."""

    max_lorem_ipsum_lines: Annotated[int, Field(ge=0)] | None = 0  # null: no rule
    max_curly_bracket_lines: Annotated[int, Field(ge=0)] | None = 0
    min_sentences: Annotated[int, Field(ge=0)] = 5
    max_word_chars: Count = 1_000  # a line with a longer word goes
    min_line_words: Annotated[int, Field(ge=0)] = 3
    use_terminal_punctuation: bool = True  # lines must end in . ? ! or a quotation mark
    use_javascript: bool = True  # lines that name it go
    use_policies: bool = True  # lines on cookies and terms of use go
    use_citations: bool = True  # [1], [edit], [citation needed] go out of lines


class FineWeb(Section):
    """Penedo et al. 2024, section 3.6."""

    min_punctuated_line_frac: Frac = 0.12
    max_short_line_frac: Frac = 0.67
    max_repeated_line_char_frac: Frac = 0.01
    max_newline_word_frac: Annotated[float, Field(ge=0.0)] = 0.3
    short_line_chars: Count = 30


class Licenses(Section):
    """By SPDX id, in any spelling, `*` at the end for a family. A list alone is `allow`, with "unknown" in it for keep."""

    allow: list[str] = []  # none: all that is not denied
    deny: list[str] = []  # wins over allow; in an OR the other part may still be allowed
    unknown: Literal["drop", "keep", "stop"] = "drop"  # documents whose source says nothing
    on_violation: Literal["drop", "stop"] = "drop"  # stop: the stage ends with exit code 1 and names them

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        names: list[Any] = value
        return {"allow": names, "unknown": "keep" if "unknown" in names else "drop"}

    @model_validator(mode="after")
    def _is_clear(self) -> Licenses:
        if not self.allow and not self.deny:
            raise ValueError("neither allow nor deny lists a license; list some, or allow: ['*']")
        if "unknown" in self.deny or ("unknown" in self.allow and self.unknown != "keep"):
            raise ValueError("what becomes of unknown is said by unknown: drop, keep or stop")
        return self


PII_KINDS = ("key", "email", "iban", "card", "national_id", "ip", "phone")


class Pii(Section):
    """Personal data and secrets, replaced by `<EMAIL>`, …; what each kind covers: pipeline/filter/pii/redact.py."""

    kinds: Annotated[
        list[Literal["key", "email", "iban", "card", "national_id", "ip", "phone"]], Field(min_length=1)
    ] = list(PII_KINDS)  # pyright: ignore[reportAssignmentType]


class EvaluationSet(Section):
    """Texts that must not be trained on: `.jsonl .ndjson .parquet` (named fields) or `.txt` (one per line), also compressed."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # in metrics and in the ledger
    path: InputPath  # a file, a folder or a glob below --sets
    fields: list[str] = []  # dotted names (`choices.text`); a list's texts count one by one


class Decontamination(Section):
    """Brown et al. 2020 (GPT-3), appendix C: no document may share n words in a row with an evaluation set."""

    ngram_words: Annotated[int, Field(ge=5, le=50)] = 13
    min_words: Annotated[int, Field(ge=3, le=50)] = 8  # a shorter item is not looked for; up to ngram_words: as a whole
    max_overlap_ngrams: Annotated[int, Field(ge=0)] = 0  # of an evaluation set that a document may hold
    sets: Annotated[list[EvaluationSet], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_differ(self) -> Decontamination:
        names = [each.name for each in self.sets]
        if len(set(names)) < len(names):
            raise ValueError("two sets have the same name")
        return self


class Filter(Section):
    language: Language
    gopher_quality: GopherQuality | None = None
    gopher_repetition: GopherRepetition | None = None
    c4: C4 | None = None
    fineweb: FineWeb | None = None
    quality_classifier: QualityClassifier | None = None
    decontamination: Decontamination | None = None
    pii: Pii | None = None
    licenses: Licenses

"""The section `filter` of params.yaml. Thresholds are named for the side that is kept (docs/filters.md)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, InputPath, NgramWords, ParamsSection, Seed
from pipeline.screening.params import Decontamination, Licenses


class ModelFile(ParamsSection):
    """A third-party model: its file, and the hash that the file must have."""

    path: InputPath  # below --examples
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Language(ParamsSection):
    """fastText on character n-grams, trained here on data/seed/languages, or a third-party fastText model."""

    keep: Annotated[list[str], Field(min_length=1)]
    min_score: Frac  # 0: no language is judged, and no model is trained
    seed: Seed
    min_char_ngram: Annotated[int, Field(ge=1, le=8)]
    max_char_ngram: Annotated[int, Field(ge=1, le=8)]
    dim: Annotated[int, Field(ge=4, le=512)]
    n_buckets: Annotated[int, Field(ge=1_000)]
    learning_rate: Annotated[float, Field(gt=0.0, le=5.0)]
    n_epochs: Count
    n_spans: Annotated[int, Field(ge=0, le=100)]  # short spans added per sentence, because short texts are judged too
    n_mixed: Annotated[
        int, Field(ge=0, le=100)
    ]  # copies of each foreign sentence with words of a kept language in them
    keep_weight: Annotated[int, Field(ge=1, le=100)]  # repetitions of the kept languages' sentences
    max_prose_bytes: Annotated[int, Field(ge=200)] = (
        4_000  # a longer document is judged by about this much of its prose, from the beginning
    )
    model: ModelFile | None = (
        None  # for example lid.176 instead of a model trained here; `seed` to `keep_weight` are unused then
    )

    @property
    def is_judged(self) -> bool:
        """Return whether a document can be dropped for its language."""
        return self.min_score > 0.0


class ExampleFiles(ParamsSection):
    """Example texts in files: rows of JSON, CSV, Parquet or Arrow, or `.txt` (one per file), also compressed."""

    path: InputPath  # a file, a folder or a glob below --examples
    text_column: Annotated[str, Field(min_length=1)] = (
        "text"  # of JSON lines and Parquet; `meta.text` is the field `text` in `meta`
    )
    split_on: str = ""  # cut a .txt file into texts at this separator


class Examples(ParamsSection):
    """Examples of one class: documents of the corpus, selected by source, and files from outside the corpus."""

    sources: list[str] = []  # prefixes of `source`; "" selects every document
    files: list[ExampleFiles] = []

    @model_validator(mode="after")
    def _check_not_empty(self) -> Examples:
        if not self.sources and not self.files:
            raise ValueError("no examples; name sources of the corpus, or files")
        return self


class QualityClassifier(ParamsSection):
    """fastText on words and word n-grams, trained here; texts similar to the positives are kept (DCLM, Li et al. 2024)."""

    positives: Examples
    negatives: Examples  # a document that both select is a positive
    min_score: Frac | None = None  # either this threshold, or …
    keep_frac: Annotated[float, Field(gt=0.0, le=1.0)] | None = (
        None  # … the best-scored share of all documents (DCLM: 0.1)
    )
    seed: Seed = 1
    word_ngrams: Annotated[int, Field(ge=1, le=5)] = 2
    dim: Annotated[int, Field(ge=1, le=512)] = 100
    n_buckets: Annotated[int, Field(ge=1_000)] = 200_000  # for word n-grams; each takes 4 * dim bytes during training
    learning_rate: Annotated[float, Field(gt=0.0, le=5.0)] = 0.1
    n_epochs: Count = 5
    min_word_count: Count = 1  # a rarer word gets no row of its own
    max_docs: Count = 200_000  # per class, sampled by a hash of the text
    max_chars: Annotated[int, Field(ge=100)] = 10_000  # a longer text is judged by its beginning only

    @model_validator(mode="after")
    def _check_one_threshold(self) -> QualityClassifier:
        if (self.min_score is None) == (self.keep_frac is None):
            raise ValueError("give either min_score or keep_frac")
        return self


class GopherQuality(ParamsSection):
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


class GopherRepetition(ParamsSection):
    """Rae et al. 2021, table A1. Fractions of repeated lines, paragraphs and characters."""

    max_dup_line_frac: Frac
    max_dup_paragraph_frac: Frac
    max_dup_line_char_frac: Frac
    max_dup_paragraph_char_frac: Frac
    max_top_ngram_char_frac: dict[
        NgramWords, Frac
    ]  # words per n-gram → largest fraction of the characters in the most frequent n-gram
    top_ngram_from_count: Count = (
        1  # a less frequent n-gram is not counted as a repetition; at 1 every short text has one
    )
    max_dup_ngram_char_frac: dict[
        NgramWords, Frac
    ]  # words per n-gram → largest fraction of the characters in n-grams seen before


class C4(ParamsSection):
    """Raffel et al. 2020, section 2.2. Lines that break a rule are removed, then the document is judged.

    FineWeb uses these rules without `use_terminal_punctuation`.
    """

    max_lorem_ipsum_lines: Annotated[int, Field(ge=0)] | None = 0  # null turns the rule off
    max_curly_bracket_lines: Annotated[int, Field(ge=0)] | None = 0
    min_sentences: Annotated[int, Field(ge=0)] = 5
    max_word_chars: Count = 1_000  # lines with a longer word are removed
    min_line_words: Annotated[int, Field(ge=0)] = 3
    use_terminal_punctuation: bool = True  # lines must end in . ? ! or a quotation mark
    use_javascript: bool = True  # remove lines that contain "javascript"
    use_policies: bool = True  # remove lines about cookies and terms of use
    use_citations: bool = True  # remove [1], [edit], [citation needed] from lines


class FineWeb(ParamsSection):
    """Penedo et al. 2024, section 3.6."""

    min_punctuated_line_frac: Frac = 0.12
    max_short_line_frac: Frac = 0.67
    max_repeated_line_char_frac: Frac = 0.01
    max_newline_word_frac: Annotated[float, Field(ge=0.0)] = 0.3
    short_line_chars: Count = 30


PII_KINDS = ("key", "email", "iban", "card", "national_id", "ip", "phone")


class Pii(ParamsSection):
    """Kinds of personal data and secrets to replace by `<EMAIL>`, … (coverage: model/masking/find_personal.py)."""

    kinds: Annotated[
        list[Literal["key", "email", "iban", "card", "national_id", "ip", "phone"]], Field(min_length=1)
    ] = list(PII_KINDS)  # pyright: ignore[reportAssignmentType]
    # ISO 3166 codes, such as GB: their national forms need no word like "phone" before them; null: those in pii/phones.py
    phone_regions: list[str] | None = None
    only_public_ips: bool = False  # keep private, loopback and link-local addresses


class Filter(ParamsSection):
    """The whole section; a rule set that is missing or null is off."""

    language: Language
    gopher_quality: GopherQuality | None = None
    gopher_repetition: GopherRepetition | None = None
    c4: C4 | None = None
    fineweb: FineWeb | None = None
    quality_classifier: QualityClassifier | None = None
    decontamination: Decontamination | None = None
    pii: Pii | None = None
    licenses: Licenses
    # Prefixes of `source`: documents that break rules about the quality of text and no other one remain, for search only.
    search_sources: list[str] = []

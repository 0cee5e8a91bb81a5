"""The typed mirror of params.yaml: one frozen model a stage, in stage order.

Unknown keys, wrong types and values out of range are refused before any work, with the dotted name. Values are read with
YAML 1.2 (as DVC reads them), so that `3e-4` is a number.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML, YAMLError

from pipeline.errors import ParamError, UserError

Frac = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
LearningRate = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
NgramWords = Annotated[int, Field(ge=1, le=50)]


class Section(BaseModel):
    """A part of params.yaml: frozen, no unknown keys, no silent conversion of text to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PythonDocs(Section):
    """The documentation of the Python environment that runs the pipeline; `stdlib` names the standard library."""

    kind: Literal["python_docs"]
    packages: Annotated[list[str], Field(min_length=1)]


SourceFormat = Literal["text", "warc", "wikipedia"]
SourceName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class TextSettings(Section):
    """How files of text are read, wherever they come from."""

    licence: str = "unknown"  # SPDX, for files that carry none
    split_on: str = ""  # cut one file into documents at this separator; empty: one file, one document
    max_member_bytes: Count = 64_000_000  # a longer text is a reject: what one document may take of memory
    text_column: Annotated[str, Field(min_length=1)] = "text"  # of JSON lines and Parquet, like the four below
    id_column: str = ""
    title_column: str = ""
    url_column: str = ""  # `meta.url`: the field url inside meta
    licence_column: str = ""


class Text(TextSettings):
    """Files, folders, globs, archives or fsspec URLs of text."""

    kind: Literal["text"]
    name: SourceName
    path: str


class HttpFile(Section):
    """One address. With a `sha256` the file is checked, and never asked for again once it is here."""

    url: Annotated[str, Field(pattern=r"^https?://[^/\s]+\S*$")]
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    file_name: Annotated[str, Field(pattern=r"^[\w.-]*$")] = (
        ""  # where the address does not end in one: its ending counts
    )


class Http(TextSettings):
    """Files behind http(s) addresses, kept below var/fetched."""

    kind: Literal["http"]
    name: SourceName
    files: Annotated[list[HttpFile], Field(min_length=1)]
    format: SourceFormat = "text"  # the reader of the fetched files


class HuggingFace(TextSettings):
    """Files of a repository on the Hugging Face hub, at one revision."""

    kind: Literal["huggingface"]
    name: SourceName
    repo: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
    repo_type: Literal["dataset", "model"] = "dataset"
    revision: Annotated[
        str, Field(min_length=1)
    ]  # a commit; the commit that a branch or tag means today is put on record
    files: Annotated[list[str], Field(min_length=1)]  # globs, such as data/CC-MAIN-2024-10/*.parquet
    format: SourceFormat = "text"


class Wikipedia(Section):
    """Dumps of a MediaWiki wiki (`pages-articles`): files, folders, globs or fsspec URLs of .xml, also compressed."""

    kind: Literal["wikipedia"]
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    path: str
    licence: str = "CC-BY-SA-4.0"  # SPDX; dumps don't name it
    max_member_bytes: Count = 16_000_000  # of one page's wikitext; a longer one is a reject


class Warc(Section):
    """Web archives: files, folders, globs or fsspec URLs of WARC, WET and ARC, also compressed."""

    kind: Literal["warc"]
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    path: str
    licence: str = "unknown"  # SPDX, for pages that name none themselves
    max_member_bytes: Count = 16_000_000  # of one page, packed and unpacked; a longer one is a reject


class Download(Section):
    sources: Annotated[
        list[Annotated[PythonDocs | Text | Http | HuggingFace | Wikipedia | Warc, Field(discriminator="kind")]],
        Field(min_length=1),
    ]


RUN_NAME = r"^\w[\w.-]{0,99}$"
RunName = Annotated[str, Field(pattern=RUN_NAME)]


class NearIndex(Section):
    """What earlier runs kept: a document that says the same as one of theirs is dropped, and theirs is named."""

    place: Annotated[str, Field(min_length=1)]  # a folder, or redis://host:port/0 (rediss://, unix://)
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


class ModelFile(Section):
    """A model of others: where it lies, and what it must be."""

    path: Annotated[str, Field(min_length=1)]  # a file or an fsspec URL
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


class Examples(Section):
    """Texts that show one side of a question: documents of the corpus by their source, and files that are not in it."""

    sources: list[str] = []  # prefixes of `source`; "" is every document
    files: list[Text] = []  # as in download.sources

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


class Licences(Section):
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
    def _is_clear(self) -> Licences:
        if not self.allow and not self.deny:
            raise ValueError("neither allow nor deny lists a licence; list some, or allow: ['*']")
        if "unknown" in self.deny or ("unknown" in self.allow and self.unknown != "keep"):
            raise ValueError("what becomes of unknown is said by unknown: drop, keep or stop")
        return self


PII_KINDS = ("key", "email", "iban", "card", "national_id", "ip", "phone")


class Pii(Section):
    """Personal data and secrets, replaced by `<EMAIL>`, …; what each kind covers: pipeline/text/pii.py."""

    kinds: Annotated[
        list[Literal["key", "email", "iban", "card", "national_id", "ip", "phone"]], Field(min_length=1)
    ] = list(PII_KINDS)  # pyright: ignore[reportAssignmentType]


class EvaluationSet(Section):
    """Texts that must not be trained on: `.jsonl .ndjson .parquet` (named fields) or `.txt` (a line each), also packed."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # in metrics and in the ledger
    path: str  # a file, a folder or a glob; fsspec URLs too
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
    licences: Licences


class TrainTokenizer(Section):
    kind: Literal["bpe", "wordpiece", "char"] = "bpe"
    vocab_size: Annotated[int, Field(ge=300, le=1_000_000)]
    pattern: Literal["gpt2", "cl100k", "qwen2"]
    sample_bytes: Annotated[int, Field(ge=10_000)]  # of text to train on, drawn by `seed`
    seed: Seed


class Shard(Section):
    val_frac: Annotated[float, Field(gt=0.0, lt=0.5)]  # of the documents, chosen by a hash of their id
    seed: Seed
    file_tokens: Count  # about this many tokens a file


class Conversations(Section):
    seed: Seed
    max_tokens: Annotated[int, Field(ge=64)]  # a whole conversation, so that none is cut in training
    passage_chars: Annotated[int, Field(ge=80, le=4_000)]  # of a passage that search_docs finds
    max_index_bytes: Annotated[
        int, Field(ge=1_000_000)
    ]  # of passages' text in passages.sqlite, which is about twice as large
    max_sample_bytes: Count  # of documents' text to talk about, drawn by `seed` where there is more: bounds memory
    n_quote: Annotated[int, Field(ge=0)]
    n_abstain: Annotated[int, Field(ge=0)]
    n_search: Annotated[int, Field(ge=0)]  # half of them by name, half in words
    n_calculator: Annotated[int, Field(ge=0)]
    n_seed_repeats: Annotated[int, Field(ge=1)]  # how often each wording of a hand-written conversation is shown
    joined_frac: Frac  # of the conversations that go on with another one, as people's do
    system_frac: Frac  # of the conversations made by program that begin with a system prompt
    n_heldout: Annotated[int, Field(ge=1)]  # of each skill, on symbols that training never saw


class Architecture(Section):
    """The decoder's shape; the vocabulary's size comes with the tokenizer."""

    n_layer: Annotated[int, Field(ge=1, le=256)]
    n_head: Annotated[int, Field(ge=1, le=256)]
    n_kv_head: Annotated[int, Field(ge=1, le=256)]
    d_model: Annotated[int, Field(ge=16)]
    d_head: Annotated[int, Field(ge=8)]
    d_ff: Annotated[int, Field(ge=16)]
    seq_len: Annotated[int, Field(ge=16)]
    rope_theta: Annotated[float, Field(gt=1.0)] = 10_000.0
    is_tied: bool = True

    @model_validator(mode="after")
    def heads_divide(self) -> Architecture:
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_head ({self.n_head}) must be a multiple of n_kv_head ({self.n_kv_head})")
        return self


class Spikes(Section):
    """Steps that are not taken (model/watch.py): the batch is left out, its documents are named in events.jsonl."""

    max_robust_z: Annotated[float, Field(ge=0.0)]  # a loss so many robust deviations above the median; 0 = only NaN
    window_steps: Annotated[int, Field(ge=8)] = 100  # of which the median is taken
    back_steps: Annotated[int, Field(ge=0)] = 0  # also undone, and their batches left out
    max_skips: Annotated[int, Field(ge=0)] = 0  # one more ends the run


class Phase(Section):
    """One run of the training loop: Muon on the matrices, AdamW on the rest, warmup, stable, decay."""

    seed: Seed
    micro_rows: Annotated[int, Field(ge=0)]  # rows a process computes at once, 0 = its whole share; less memory
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)]
    warmup_frac: Frac
    decay_frac: Frac
    final_lr_frac: Frac
    max_grad_norm: Annotated[float, Field(ge=0.0)]  # 0 = no clipping
    spikes: Spikes | None = None  # without it, only a loss that is no number ends the run


class Optimization(Phase):
    """A phase with all its settings."""

    total_steps: Count
    batch_rows: Count  # rows of seq_len tokens in one optimiser step, over all processes
    matrix_lr: LearningRate
    embedding_lr: LearningRate
    head_lr: LearningRate
    norm_lr: LearningRate
    eval_every: Count  # steps between two points of the held-out curve


class BudgetedOptimization(Phase):
    """The same; what is left out follows from pretrain.budget (model/budget.py has the rules)."""

    total_steps: Count | None = None
    batch_rows: Count | None = None
    matrix_lr: LearningRate | None = None
    embedding_lr: LearningRate | None = None
    head_lr: LearningRate | None = None
    norm_lr: LearningRate | None = None
    eval_every: Count | None = None


class Budget(Section):
    """How much pretraining may cost: exactly one of these. Minutes are counted at a stated rate, because no clock may change
    an artifact."""

    tokens: Count | None = None
    tokens_per_parameter: Annotated[float, Field(gt=0.0)] | None = None  # 20 is compute-optimal
    flops: Annotated[float, Field(gt=0.0)] | None = None
    minutes: Annotated[float, Field(gt=0.0)] | None = None
    tokens_per_second: Annotated[float, Field(gt=0.0)] | None = None  # with minutes: data/metrics/pretrain.json has one

    @model_validator(mode="after")
    def is_one(self) -> Budget:
        given = [self.tokens, self.tokens_per_parameter, self.flops, self.minutes]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of tokens, tokens_per_parameter, flops, minutes")
        if (self.minutes is None) != (self.tokens_per_second is None):
            raise ValueError("minutes and tokens_per_second belong together")
        return self


class Samples(Section):
    """What the model writes at each point of the held-out curve, the likeliest token each time."""

    prompts: Annotated[list[str], Field(min_length=1)]  # an empty one: a document from its beginning
    max_tokens: Count


class Pretrain(Section):
    model: Architecture
    training: BudgetedOptimization
    budget: Budget | None = None
    samples: Samples | None = None
    eval_tokens: Count  # of the val split, for the loss curve

    @model_validator(mode="after")
    def is_complete(self) -> Pretrain:
        required = [name for name, field in Optimization.model_fields.items() if field.is_required()]
        missing = [f"training.{name}" for name in required if getattr(self.training, name) is None]
        if self.budget is None and missing:
            raise ValueError(f"{', '.join(missing)}: missing; give it, or give pretrain.budget")
        if self.budget is not None and self.training.total_steps and self.training.batch_rows:
            raise ValueError(
                "training.total_steps and training.batch_rows leave nothing for budget; remove one of the three"
            )
        return self


class Sft(Section):
    training: Optimization


class Evaluate(Section):
    seed: Seed
    max_new_tokens: Count
    n_samples: Annotated[int, Field(ge=0)]
    eval_tokens: Count  # of the val split, for bits per byte; all of it when it is smaller


class Registry(Section):
    """The gate's policy: what a candidate must not lose against the champion."""

    max_bpb_z: Annotated[float, Field(ge=0.0)]  # standard errors of the paired difference in bits per byte
    max_bpb_increase: Annotated[
        float, Field(ge=0.0)
    ]  # bits per byte, where the two were not measured on the same documents
    max_skill_drop: dict[str, Frac]  # skill → how much of the champion's fraction may be lost


class Params(Section):
    download: Download
    dedupe: Dedupe
    filter: Filter
    train_tokenizer: TrainTokenizer
    shard: Shard
    conversations: Conversations
    pretrain: Pretrain
    sft: Sft
    evaluate: Evaluate
    registry: Registry


def load_params(path: Path) -> Params:
    """params.yaml, whole and checked. Raises `UserError` for a missing or broken file, `ParamError` for a setting."""
    try:
        values: Any = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file", "nothing", "run in the repository's root, or give --params") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML", str(error), "mend the line it names") from error
    return check_params(values, str(path))


def check_params(values: object, path: str = "params.yaml") -> Params:
    """The typed params. Raises `ParamError` that names every wrong setting by its dotted name."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        problems = [_problem(detail) for detail in error.errors(include_url=False)]
        names = ", ".join(name for name, _, _ in problems)
        found = "; ".join(f"{name} = {value}" for name, value, _ in problems)
        raise ParamError(f"{path}: {names}", found, "; ".join(f"{name}: {say}" for name, _, say in problems)) from error


def _problem(detail: Any) -> tuple[str, str, str]:
    name = ".".join(str(part) for part in detail["loc"]) or "params.yaml"
    value = "(missing)" if detail["type"] == "missing" else repr(detail["input"])[:80]
    say = "unknown setting, remove it or correct its spelling" if detail["type"] == "extra_forbidden" else detail["msg"]
    return name, value, say

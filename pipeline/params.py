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


class Text(Section):
    """Files, folders, globs, archives or fsspec URLs of text."""

    kind: Literal["text"]
    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    path: str
    licence: str = "unknown"  # SPDX, for files that carry none
    split_on: str = ""  # cut one file into documents at this separator; empty: one file, one document
    max_member_bytes: Count = 64_000_000  # a longer text is a reject: what one document may take of memory
    text_column: Annotated[str, Field(min_length=1)] = "text"  # of JSON lines and Parquet, like the four below
    id_column: str = ""
    title_column: str = ""
    url_column: str = ""
    licence_column: str = ""


class Download(Section):
    sources: Annotated[list[Annotated[PythonDocs | Text, Field(discriminator="kind")]], Field(min_length=1)]


RUN_NAME = r"^\w[\w.-]{0,99}$"
RunName = Annotated[str, Field(pattern=RUN_NAME)]


class NearIndex(Section):
    """What earlier runs kept: a document that says the same as one of theirs is dropped, and theirs is named."""

    place: Annotated[str, Field(min_length=1)]  # a folder, or redis://host:port/0 (rediss://, unix://)
    runs: Literal["all"] | Annotated[list[RunName], Field(min_length=1)]  # names give the same bytes again, "all" grows


class Dedupe(Section):
    seed: Seed
    ngram_words: NgramWords
    n_bands: Annotated[int, Field(ge=1, le=512)]
    n_rows: Annotated[int, Field(ge=1, le=64)]
    min_jaccard: Annotated[float, Field(gt=0.0, le=1.0)]  # a verified pair at or above it is a duplicate
    source_priority: list[str]  # prefixes of `source`; the first one listed survives


class Language(Section):
    """fastText on character n-grams, trained here on data/seed/languages."""

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
    max_dup_ngram_char_frac: dict[NgramWords, Frac]  # n of words → most characters in n-grams that occur more than once


class Filter(Section):
    language: Language
    gopher_quality: GopherQuality
    gopher_repetition: GopherRepetition
    licences: Annotated[list[str], Field(min_length=1)]  # SPDX ids that may stay; "unknown" is a choice


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

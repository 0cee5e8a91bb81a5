"""From `train_tokenizer` to `evaluate` in params.yaml: vocabulary, shards, conversations, the model and its training."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeAlias, TypeVar

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, LearningRate, Section, Seed


class TrainTokenizer(Section):
    kind: Literal["bpe", "wordpiece", "char"] = "bpe"
    vocab_size: Annotated[int, Field(ge=300, le=1_000_000)]
    pattern: Literal["gpt2", "cl100k", "qwen2"]
    sample_bytes: Annotated[int, Field(ge=10_000)]  # of text to train on, drawn by `seed`
    seed: Seed
    # Prefix of `source` → its weight in the sample; of two that fit the longer one counts, what none fits is left out.
    shares: Annotated[dict[str, Annotated[float, Field(gt=0.0)]], Field(min_length=1)] | None = None  # as the corpus is


class Shard(Section):
    val_frac: Annotated[float, Field(gt=0.0, lt=0.5)]  # of the documents, chosen by a hash of their id
    seed: Seed
    file_tokens: Count  # about this many tokens a file


class Conversations(Section):
    seed: Seed
    max_tokens: Annotated[int, Field(ge=64)]  # a whole conversation, so that none is cut in training
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


C = TypeVar("C")  # Count, or Count | None
R = TypeVar("R")  # LearningRate, or LearningRate | None


class Training(Section, Generic[C, R]):
    """One run of the training loop: Muon on the matrices, AdamW on the rest; warmup, constant, decay.

    The names are those of model.train.TrainSettings, OptimSettings and WatchSettings (`spikes`), which take them over whole.
    """

    seed: Seed
    total_steps: C
    batch_rows: C  # rows of seq_len tokens in one optimizer step, over all processes
    micro_rows: Annotated[int, Field(ge=0)]  # rows a process computes at once, 0 = its whole share; less memory
    matrix_lr: R
    embedding_lr: R
    head_lr: R
    norm_lr: R
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95  # Muon's; a run of few hundred steps does better with less
    warmup_frac: Frac
    decay_frac: Frac
    final_lr_frac: Frac
    max_grad_norm: Annotated[float, Field(ge=0.0)]  # 0 = no clipping
    eval_every: C  # steps between two points of the held-out curve
    spikes: Spikes | None = None  # without it, only a loss that is not finite ends the run


Optimization: TypeAlias = Training[Count, LearningRate]
# What is left out follows from pretrain.budget (model/budget.py has the rules).
BudgetedOptimization: TypeAlias = Training[Count | None, LearningRate | None]
BUDGETED = tuple(name for name, field in Training.model_fields.items() if isinstance(field.annotation, TypeVar))


class Budget(Section):
    """How much pretraining may cost: exactly one of these. Minutes are counted at a stated rate, because no clock may change
    an artifact."""

    tokens: Count | None = None
    tokens_per_parameter: Annotated[float, Field(gt=0.0)] | None = None  # 20 is compute-optimal
    flops: Annotated[float, Field(gt=0.0)] | None = None
    minutes: Annotated[float, Field(gt=0.0)] | None = None
    tokens_per_second: Annotated[float, Field(gt=0.0)] | None = None  # with minutes: var/timings/pretrain.json has one

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


MixtureKey = Annotated[str, Field(pattern=r"^[\w./-]*$")]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Data(Section):
    """How the shards' documents become rows, and how much of each source there is (docs/training.md)."""

    packing: Literal["stream", "best_fit"] = "stream"  # rows cut from one long text; or whole documents, rows padded
    mask_documents: bool = True  # a token sees its own document only
    mixture: dict[MixtureKey, Weight] | None = None  # source, or how its name begins → share of the rows, of their sum
    max_epochs: Annotated[float, Field(gt=0.0)] | None = None  # of any source; a run that needs more is refused

    @model_validator(mode="after")
    def has_weight(self) -> Data:
        if self.mixture is not None and not any(self.mixture.values()):
            raise ValueError("mixture: no source has a weight above 0; give one, or leave mixture out")
        return self


class Pretrain(Section):
    model: Architecture
    training: BudgetedOptimization
    data: Data = Data()
    budget: Budget | None = None
    samples: Samples | None = None
    eval_tokens: Count  # of the val split, for the loss curve

    @model_validator(mode="before")
    @classmethod
    def leave_open(cls, values: Any) -> Any:
        """Set the settings that a budget decides to None where they are left out."""
        training = values.get("training") if isinstance(values, dict) else None
        if not isinstance(training, dict):
            return values
        return {**values, "training": {**dict.fromkeys(BUDGETED), **training}}

    @model_validator(mode="after")
    def is_complete(self) -> Pretrain:
        missing = [f"training.{name}" for name in BUDGETED if getattr(self.training, name) is None]
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

"""Settings of `pretrain` in params.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, LearningRate, ParamsSection
from pipeline.training.params import BUDGETED, Architecture, Training

# Settings that are left out are derived from pretrain.budget (rules: model/planning/budget.py).
BudgetedOptimization: TypeAlias = Training[Count | None, LearningRate | None]


class Budget(ParamsSection):
    """How much pretraining may cost: exactly one of these. Minutes need a stated rate, because a clock must not change an
    artifact."""

    tokens: Count | None = None
    tokens_per_parameter: Annotated[float, Field(gt=0.0)] | None = None  # 20 is compute-optimal
    flops: Annotated[float, Field(gt=0.0)] | None = None
    minutes: Annotated[float, Field(gt=0.0)] | None = None
    tokens_per_second: Annotated[float, Field(gt=0.0)] | None = (
        None  # required with minutes; var/timings/pretrain.json has the measured rate
    )

    @model_validator(mode="after")
    def check_single(self) -> Budget:
        given = [self.tokens, self.tokens_per_parameter, self.flops, self.minutes]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give exactly one of tokens, tokens_per_parameter, flops, minutes")
        if (self.minutes is None) != (self.tokens_per_second is None):
            raise ValueError("minutes and tokens_per_second belong together; give both or neither")
        return self


class Samples(ParamsSection):
    """Texts that the model generates at each point of the held-out curve, by greedy decoding."""

    prompts: Annotated[list[str], Field(min_length=1)]  # an empty prompt starts a new document
    max_tokens: Count


MixtureKey = Annotated[str, Field(pattern=r"^[\w./-]*$")]
Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class Growth(ParamsSection):
    """A part of a run with smaller batches or shorter rows than at its end."""

    until_frac: Annotated[float, Field(gt=0.0, le=1.0)]  # of the steps; it begins where the one before it ends
    batch_rows: Count | None = None  # rows of seq_len tokens per step; null: training.batch_rows
    row_tokens: Annotated[int, Field(ge=16)] | None = (
        None  # rows are cut into pieces of this length; null: they stay whole
    )


class Data(ParamsSection):
    """How the documents of the shards are packed into rows, and the share of each source (docs/training.md)."""

    packing: Literal["stream", "best_fit"] = "stream"  # rows cut from one long text; or whole documents in padded rows
    mask_documents: bool = True  # a token attends to its own document only
    mixture: dict[MixtureKey, Weight] | None = None  # source, or prefix of its name → relative share of the rows
    max_epochs: Annotated[float, Field(gt=0.0)] | None = None  # per source; a run that would need more is refused
    growth: list[
        Growth
    ] = []  # parts from the start; after the last one, training.batch_rows rows of model.seq_len tokens

    @model_validator(mode="after")
    def check_weights(self) -> Data:
        if self.mixture is not None and not any(self.mixture.values()):
            raise ValueError("mixture: no source has a weight above 0; give one, or leave mixture out")
        return self


class Pretrain(ParamsSection):
    """Model, training, data and budget of pretraining."""

    model: Architecture
    training: BudgetedOptimization
    data: Data = Data()
    budget: Budget | None = None
    samples: Samples | None = None
    eval_tokens: Count  # tokens of the val split for the held-out curve

    @model_validator(mode="before")
    @classmethod
    def fill_open_settings(cls, values: Any) -> Any:
        """Set the settings that a budget determines to None if they are left out."""
        training = values.get("training") if isinstance(values, dict) else None
        if not isinstance(training, dict):
            return values
        return {**values, "training": {**dict.fromkeys(BUDGETED), **training}}

    @model_validator(mode="after")
    def check_growth(self) -> Pretrain:
        growth, seq_len = self.data.growth, self.model.seq_len
        ends = [part.until_frac for part in growth]
        if ends != sorted(set(ends)):
            raise ValueError(f"data.growth: until_frac must rise from part to part, got {ends}")
        for number, part in enumerate(growth):
            if part.row_tokens and seq_len % part.row_tokens:
                raise ValueError(
                    f"data.growth.{number}.row_tokens ({part.row_tokens}) must divide model.seq_len ({seq_len}); change one"
                )
            if part.batch_rows and None in (self.training.total_steps, self.training.batch_rows):
                raise ValueError(
                    f"data.growth.{number}.batch_rows changes what a budget buys; give training.total_steps and batch_rows"
                )
        return self

    @model_validator(mode="after")
    def check_completeness(self) -> Pretrain:
        missing = [f"training.{name}" for name in BUDGETED if getattr(self.training, name) is None]
        if self.budget is None and missing:
            raise ValueError(f"{', '.join(missing)}: missing; set them, or set pretrain.budget")
        if self.budget is not None and self.training.total_steps and self.training.batch_rows:
            raise ValueError(
                "training.total_steps and training.batch_rows leave nothing for budget; remove one of the three"
            )
        return self

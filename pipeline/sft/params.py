"""Settings of `sft` in params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.frame.settings import ParamsSection
from pipeline.training.params import Optimization

Target = Literal["query", "key", "value", "out", "gate", "up", "down"]


class Adapter(ParamsSection):
    """Settings of a low-rank adapter (model/network/lora.py), which is trained instead of the base's weights. `training.matrix_lr`
    is the rate of its matrices, about ten times that of full tuning, and `training.norm_lr` that of DoRA's magnitudes."""

    kind: Literal["lora", "rslora", "dora"] = "lora"
    rank: Annotated[int, Field(ge=1)]
    alpha: Annotated[
        float, Field(gt=0.0)
    ]  # the product of both matrices counts alpha / rank times; rslora: alpha / √rank
    targets: Annotated[list[Target], Field(min_length=1)]


class Sft(ParamsSection):
    """Settings of supervised fine-tuning."""

    training: Optimization
    adapter: Adapter | None = None  # null: all weights are trained
    replay_frac: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # of the rows that are pretraining text, from --shards
    replay_weight: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # of a token of those rows, beside 1 of a reply's

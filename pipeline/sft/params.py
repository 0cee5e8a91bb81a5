"""Settings of `sft` in params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import ParamsSection
from pipeline.training.params import Adapter, Optimization


class Sft(ParamsSection):
    """Settings of supervised fine-tuning."""

    training: Optimization
    adapter: Adapter | None = None  # null: all weights are trained
    replay_frac: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # of the rows that are pretraining text, from --shards
    replay_weight: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0  # of a token of those rows, beside 1 of a reply's

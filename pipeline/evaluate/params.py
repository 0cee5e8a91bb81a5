"""Settings of `evaluate` in params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Count, Section, Seed


class Evaluate(Section):
    seed: Seed
    max_new_tokens: Count
    n_samples: Annotated[int, Field(ge=0)]
    eval_tokens: Count  # of the val split, for bits per byte; all of it when it is smaller

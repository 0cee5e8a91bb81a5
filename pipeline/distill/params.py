"""Settings of `distill` in a task recipe's params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, ParamsSection
from pipeline.training.params import Architecture, Optimization


class Distill(ParamsSection):
    """Settings of distillation: first text steps on rows of the shards, then conversations with some rows of text among them."""

    model: Architecture  # of the student; the vocabulary is the teacher's
    text_steps: Annotated[int, Field(ge=0)]  # of training.total_steps, from the start
    replay_frac: Annotated[float, Field(ge=0.0, lt=1.0)]  # of the rows of the later steps: text
    top_k: Count = 16  # tokens of the teacher's distribution per target
    share: Frac = 0.5  # of the divergence from the teacher in the loss; the rest is cross-entropy of the text
    temperature: Annotated[float, Field(gt=0.0, le=20.0)] = 1.0
    max_cache_mb: Count = (
        1000  # of the teacher's distributions on disk, while it trains; a run that needs more is refused
    )
    train_alone: bool = True  # train the same student without the teacher too, to compare
    eval_tokens: Count = 50_000  # of held-out text, for the curve and the comparison
    training: Optimization

    @model_validator(mode="after")
    def check_steps(self) -> Distill:
        if self.text_steps > self.training.total_steps:
            raise ValueError(
                f"text_steps ({self.text_steps}) must be at most training.total_steps ({self.training.total_steps})"
            )
        return self

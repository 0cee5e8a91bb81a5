"""The section `evaluate` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Count, ParamsSection, Seed


class Evaluate(ParamsSection):
    """How much text and how many samples are measured."""

    seed: Seed
    max_new_tokens: Count  # of a reply
    n_samples: Annotated[int, Field(ge=0)]  # replies shown in the report
    eval_tokens: Count  # of the val split, for bits per byte; all of it if it is smaller
    use_typed_turns: (
        bool  # run data/seed/evaluation through the whole assistant; its turns are about Python's documentation
    )

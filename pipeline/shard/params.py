"""The section `shard` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Count, ParamsSection, Seed


class Shard(ParamsSection):
    """Split and size of token files."""

    val_frac: Annotated[float, Field(gt=0.0, lt=0.5)]  # of the documents, chosen by a hash of their id
    seed: Seed
    file_tokens: Count  # per file, approximately

"""The section `index` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Count, ParamsSection, Seed


class Index(ParamsSection):
    """Length of sections and size of the index."""

    seed: Seed
    section_chars: Annotated[int, Field(ge=80, le=100_000)]  # of a section of prose; a longer sentence stays whole
    max_sample_bytes: Count  # of documents; a larger corpus is sampled by `seed`, which bounds memory

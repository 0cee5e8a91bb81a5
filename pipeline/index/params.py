"""The section `index` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Count, Section, Seed


class Index(Section):
    """Length of passages and size of the index."""

    seed: Seed
    passage_chars: Annotated[int, Field(ge=80, le=4_000)]  # of the longest passage
    max_bytes: Annotated[int, Field(ge=1_000_000)]  # of text in passages.sqlite; the file is about twice as large
    max_sample_bytes: Count  # of documents; a larger corpus is sampled by `seed`, which bounds memory

"""The section `index` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.frame.settings import Count, Section, Seed


class Index(Section):
    seed: Seed
    passage_chars: Annotated[int, Field(ge=80, le=4_000)]  # longest passage
    max_bytes: Annotated[int, Field(ge=1_000_000)]  # of text in passages.sqlite, which is about twice as large
    max_sample_bytes: Count  # of documents' text to cut, sampled by `seed` where there is more: bounds memory

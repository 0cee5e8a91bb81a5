"""The section `evaluate` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.frame.settings import Count, ParamsSection, Seed

TaskName = Literal["user_turns", "skills", "planted", "bits_per_byte"]


class Evaluate(ParamsSection):
    """What is measured, and on how much text."""

    seed: Seed
    max_new_tokens: Count  # of a reply
    n_samples: Annotated[int, Field(ge=0)]  # replies shown in the report
    eval_tokens: Count  # of the val split, for bits per byte; all of it if it is smaller
    ngram_tokens: Count = 20_000_000  # of the train split, which the 5-gram counts; 60 bytes of memory each
    tasks: Annotated[list[TaskName], Field(min_length=1)]  # names in pipeline/evaluate/tasks

    @field_validator("tasks")
    @classmethod
    def _check_unique(cls, tasks: list[TaskName]) -> list[TaskName]:
        if len(set(tasks)) < len(tasks):
            raise ValueError("a task is named twice")
        return tasks

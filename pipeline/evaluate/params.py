"""The section `evaluate` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator, model_validator

from pipeline.frame.settings import Count, InputPath, ParamsSection, Seed

TaskName = Literal[
    "user_turns",
    "skills",
    "planted",
    "robustness",
    "demands",
    "safety",
    "bits_per_byte",
    "memorization",
    "cloze",
    "multiple_choice",
    "minimal_pairs",
    "bias",
    "exact_match",
    "speed",
]
SetTask = Literal["minimal_pairs", "multiple_choice", "cloze", "exact_match"]


class TaskSet(ParamsSection):
    """Your own or a public set of items for one task, in the layouts that docs/evaluation.md lists."""

    task: SetTask
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # its metrics begin with it
    path: InputPath  # a file, a folder or a glob below --sets (data/evaluation)
    max_items: Count | None = None  # chosen at random; null: all


class Evaluate(ParamsSection):
    """What is measured, and on how much text."""

    seed: Seed
    max_new_tokens: Count  # of a reply
    n_samples: Annotated[int, Field(ge=0)]  # replies shown in the report
    eval_tokens: Count  # of the val split, for bits per byte; all of it if it is smaller
    ngram_tokens: Count = 20_000_000  # of the train split, which the 5-gram counts; 70 bytes of memory each
    tasks: Annotated[list[TaskName], Field(min_length=1)]  # names in pipeline/evaluate/tasks
    sets: list[TaskSet] = []

    @field_validator("tasks")
    @classmethod
    def _check_unique(cls, tasks: list[TaskName]) -> list[TaskName]:
        if len(set(tasks)) < len(tasks):
            raise ValueError("a task is named twice")
        return tasks

    @model_validator(mode="after")
    def _check_sets(self) -> Evaluate:
        names = [each.name for each in self.sets]
        if wrong := [name for name in names if names.count(name) > 1 or name in get_args(TaskName)]:
            raise ValueError(f"the set {wrong[0]} needs a name of its own")
        if idle := [each for each in self.sets if each.task not in self.tasks]:
            raise ValueError(f"the set {idle[0].name} needs {idle[0].task} among evaluate.tasks")
        return self

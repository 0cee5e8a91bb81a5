"""The section `guard` of params.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.frame.settings import Count, Frac, InputPath, ParamsSection, Seed
from pipeline.screening.params import Licenses

FieldName = Annotated[str, Field(min_length=1)]


class LabeledSource(ParamsSection):
    """Labeled texts that people have: files below the stage's input `labels` (docs/guard.md)."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]  # in the rejects and in the metrics
    path: InputPath  # a file, a folder or a glob below --labels
    license: Annotated[str, Field(min_length=1)]  # a row's own field `license` takes precedence
    text: FieldName = "text"  # the fields of a row
    label: FieldName = "label"  # harmful or harmless (also 1 and 0, true and false, unsafe and safe)
    category: FieldName = "category"  # may be absent; one of the guard's, or mapped by `categories`
    categories: dict[str, str] = {}  # a file's name of a category → the guard's
    weight: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0  # of each text, where one of ours has 1


class GuardLearning(ParamsSection):
    """Logistic regression over hashed features, by Adagrad."""

    n_epochs: Count
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)]
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)]
    dropout_frac: Annotated[float, Field(ge=0.0, lt=1.0)]  # of a text's features, others at each step


class GuardSection(ParamsSection):
    """What the guard is trained on, and how."""

    seed: Seed
    n_wordings: Annotated[int, Field(ge=100)]  # made by templates, half of them harmful
    n_messages: Annotated[int, Field(ge=0)]  # of users in the stage conversations, at most a quarter of them refused
    n_passages: Annotated[int, Field(ge=0)]  # sentences of the index, harmless
    frame_frac: Frac  # of the wordings: in a frame as jailbreaks use it
    n_folds: Annotated[int, Field(ge=2, le=10)]  # of themes: each is scored by a model that has not seen it
    learning: GuardLearning
    sources: list[LabeledSource] = []
    licenses: Licenses | None = None  # that `sources` may have

    @model_validator(mode="after")
    def _check_sources(self) -> GuardSection:
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError("two sources have the same name")
        if self.sources and self.licenses is None:
            raise ValueError("sources need licenses: list those that may be trained on")
        return self

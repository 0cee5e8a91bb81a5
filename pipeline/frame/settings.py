"""What sections of params.yaml are made of."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Frac = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
LearningRate = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
NgramWords = Annotated[int, Field(ge=1, le=50)]


def _check_relative(path: str) -> str:
    """Refuse a path that may leave the input folder which it is relative to."""
    if "://" in path or "::" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(
            "a path relative to the stage's input folder is needed, without '..': DVC must see what a stage reads"
        )
    return path


InputPath = Annotated[str, Field(min_length=1), AfterValidator(_check_relative)]  # below an input folder of the stage


class Section(BaseModel):
    """A part of params.yaml: frozen, no unknown keys, no silent conversion of text to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

"""Provide the base class and the types of the sections of params.yaml, and validate them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from pipeline.frame.errors import ParamError, UserError

Frac = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
LearningRate = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
NgramWords = Annotated[int, Field(ge=1, le=50)]


def _check_relative(path: str) -> str:
    """Return `path`. Raises ValueError if it may leave the input folder that it is relative to."""
    if "://" in path or "::" in path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(
            "must be a path relative to the stage's input folder, without '..': DVC must see what a stage reads"
        )
    return path


InputPath = Annotated[str, Field(min_length=1), AfterValidator(_check_relative)]  # below an input folder of the stage


class Section(BaseModel):
    """Hold one part of params.yaml: frozen, without unknown keys or silent conversion of text to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


S = TypeVar("S", bound=Section)


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML 1.2 file. Raises `UserError` for a missing file or broken YAML."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file", "nothing", "run this in the root of the repository, or give --params"
        ) from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML", str(error), "fix the line that it names") from error


def load_section(kind: type[S], name: str, path: Path) -> S:
    """Read one section of params.yaml, for a command that needs no other. Raises `UserError` or `ParamError`."""
    return check_section(kind, (read_yaml(path) or {}).get(name), str(path), prefix=f"{name}.")


def check_section(
    kind: type[S], values: object, path: str, renamed: Mapping[str, str] = MappingProxyType({}), prefix: str = ""
) -> S:
    """Return a validated section. Raises `ParamError` that lists every wrong setting by its dotted name, which begins with
    `prefix`; for a setting in `renamed` (old dotted name → new one) the error names the new one."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [_describe_problem(detail, renamed, prefix) for detail in error.errors(include_url=False)]
        names = ", ".join(name for name, _, _ in problems)
        found = "; ".join(f"{name} = {value}" for name, value, _ in problems)
        raise ParamError(f"{path}: {names}", found, "; ".join(f"{name}: {do}" for name, _, do in problems)) from error


def _describe_problem(detail: Any, renamed: Mapping[str, str], prefix: str) -> tuple[str, str, str]:
    """Return (dotted name, value found, what to do)."""
    name = (prefix + ".".join(str(part) for part in detail["loc"] if part != "[key]")).removesuffix(
        "."
    ) or "params.yaml"
    plain = prefix + ".".join(part for part in detail["loc"] if isinstance(part, str))  # without indices of lists
    value = "(missing)" if detail["type"] == "missing" else repr(detail["input"])[:80]
    do = detail["msg"]
    if detail["type"] == "extra_forbidden":
        do = (
            f"renamed: use {renamed[plain]}"
            if plain in renamed
            else "unknown setting; remove it or correct its spelling"
        )
    return name, value, do

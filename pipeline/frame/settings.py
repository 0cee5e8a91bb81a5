"""Provide the base class and the types of the sections of params.yaml, and validate them."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args

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


class ParamsSection(BaseModel):
    """Hold one part of params.yaml: frozen, without unknown keys or silent conversion of text to numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


S = TypeVar("S", bound=ParamsSection)

ADVICE = {  # by the type of a problem, where pydantic's message is for programmers
    "missing": "missing; add it",
    "model_type": "give its settings, one NAME: VALUE per line",
}


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML 1.2 file. Raises `UserError` for a file that is missing, unreadable or not YAML."""
    try:
        return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file",
            f"nothing of that name in {path.absolute().parent}",
            "run this in the root of the repository, or correct the path",
        ) from error
    except OSError as error:
        raise UserError(f"{path}: can't be read", str(error.strerror), "give a YAML file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not valid YAML", str(error), "save it as UTF-8") from error
    except YAMLError as error:
        message = str(error).partition("\n\nTo suppress this check")[0]
        raise UserError(f"{path}: not valid YAML", message, "fix the line that it names") from error


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
        problems = [_describe_problem(kind, detail, renamed, prefix) for detail in error.errors(include_url=False)]
        names = ", ".join(name for name, _, _ in problems)
        found = "; ".join(f"{name} = {value}" for name, value, _ in problems)
        raise ParamError(f"{path}: {names}", found, "; ".join(f"{name}: {do}" for name, _, do in problems)) from error


def _describe_problem(
    kind: type[ParamsSection], detail: Any, renamed: Mapping[str, str], prefix: str
) -> tuple[str, str, str]:
    """Return (dotted name, value found, what to do)."""
    name = (prefix + ".".join(str(part) for part in detail["loc"] if part != "[key]")).removesuffix(
        "."
    ) or "params.yaml"
    plain = prefix + ".".join(part for part in detail["loc"] if isinstance(part, str))  # without indices of lists
    value = "(missing)" if detail["type"] == "missing" else repr(detail["input"])[:80]
    do: str = ADVICE.get(detail["type"]) or detail["msg"]
    if detail["type"] == "extra_forbidden" and plain in renamed:
        do = f"renamed: use {renamed[plain]}"
    elif detail["type"] == "extra_forbidden":
        *places, key = detail["loc"]
        alike = difflib.get_close_matches(str(key), list(_list_settings(kind, places)), n=1)
        do = "unknown setting; " + (f"did you mean {alike[0]}?" if alike else "remove it or correct its spelling")
    return name, value, do


def _list_settings(kind: Any, places: Sequence[str | int]) -> Iterator[str]:
    """Yield the names of the settings at a position: of each section that may be there, if it has several forms."""
    if not places and isinstance(kind, type) and issubclass(kind, ParamsSection):
        yield from kind.model_fields
    elif isinstance(kind, type) and issubclass(kind, ParamsSection):
        field = kind.model_fields.get(str(places[0]))
        yield from () if field is None else _list_settings(field.annotation, places[1:])
    else:  # a union, a list or a dictionary: indices and the tags of a union's forms name no setting
        n_skipped = next((i for i, place in enumerate(places) if not isinstance(place, int)), len(places))
        for form in get_args(kind):
            for rest in (places[n_skipped:], places[n_skipped + 1 :]):
                yield from _list_settings(form, rest)

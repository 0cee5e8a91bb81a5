"""What is searched: a YAML file with a range or a list of choices for each dotted name under `pretrain`.

In: that file and the values of params.yaml. Out: checked settings, and params with other values in them. Pure but for reading.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.errors import ParamError, UserError
from pipeline.params import Count, Params, Section, Seed, check_params, check_section, read_yaml

Choice = bool | int | float | str | None
Values = Mapping[str, Choice]  # dotted name → value
DEFAULT_TRIALS = 20
DIGITS = 3  # of a number drawn from a range: what is printed is what was run


class Range(Section):
    """Whole numbers if both ends are whole."""

    low: int | float
    high: int | float
    log: bool = False  # drawn evenly on a logarithmic scale

    @model_validator(mode="after")
    def is_one(self) -> Range:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("low must be above 0 when log is true")
        return self

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: Choice) -> bool:
        is_number = isinstance(value, int if self.is_whole else int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # pyright: ignore[reportOperatorIssue]


class Search(Section):
    """The file, whole."""

    space: Annotated[dict[str, Range | Annotated[list[Choice], Field(min_length=1)]], Field(min_length=1)]
    set: dict[str, Any] = Field(
        default_factory=dict
    )  # what every trial has otherwise than params.yaml: a short budget, above all
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    trials: Count | None = None  # 20, or the whole grid
    seed: Seed = 1
    use_baseline: bool = True  # the values of params.yaml themselves are the first trial
    use_pruning: bool = True  # a trial that is behind the median of those before it ends early

    @model_validator(mode="after")
    def is_clear(self) -> Search:
        strange = [name for name in self.space if not name.startswith("pretrain.")]
        if strange:
            raise ValueError(f"{', '.join(strange)}: only settings under pretrain can be searched")
        both = sorted(self.space.keys() & self.set.keys())
        if both:
            raise ValueError(f"{', '.join(both)}: in space and in set; leave one out")
        ranges = [name for name, of in self.space.items() if isinstance(of, Range)]
        if self.sampler == "grid" and ranges:
            raise ValueError(f"{', '.join(ranges)}: a grid needs lists of choices")
        return self


def count_trials(search: Search) -> int:
    """How many there will be."""
    if search.sampler == "grid":
        return min(search.trials or len(grid(search)), len(grid(search)))
    return search.trials or DEFAULT_TRIALS


def load_search(path: Path) -> Search:
    """Raises: `UserError` for a file that is not there, `ParamError` for a setting."""
    return check_section(Search, read_yaml(path), str(path))


def with_values(params: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `params` with these dotted names set."""
    changed = copy.deepcopy(dict(params))
    for name, value in values.items():
        *parents, last = name.split(".")
        place = changed
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = value
    return changed


def value_at(params: Mapping[str, Any], name: str) -> Any:
    """None where it is not given."""
    place: Any = params
    for part in name.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place


def baseline(search: Search, params: Mapping[str, Any]) -> dict[str, Choice] | None:
    """The values of params.yaml, if they lie in the space."""
    values = {name: value_at(params, name) for name in search.space}
    inside = all(
        of.holds(values[name]) if isinstance(of, Range) else values[name] in of for name, of in search.space.items()
    )
    return values if inside else None


def grid(search: Search) -> list[dict[str, Choice]]:
    """Every combination of the choices."""
    choices = [list(of) for of in search.space.values() if not isinstance(of, Range)]
    return [dict(zip(search.space, values, strict=True)) for values in itertools.product(*choices)]


def rounded(values: Values) -> dict[str, Choice]:
    """Numbers with `DIGITS` digits, so that the line to copy says exactly what was run."""
    return {name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for name, value in values.items()}


def check_search(search: Search, params: Mapping[str, Any], path: Path) -> Params:
    """The params all trials start from, once each end of each range and each choice has been seen to be allowed on its own.

    Raises: `UserError` that names the setting. What only some combinations break is found by the trials.
    """
    base = with_values(params, search.set)
    first = {name: of.low if isinstance(of, Range) else of[0] for name, of in search.space.items()}
    start = baseline(search, base) or first
    for name, value in _corners(search):
        try:
            check_params(with_values(base, {**start, name: value}), str(path))
        except ParamError as error:
            if name in error.what:
                raise
    return check_params(with_values(base, start), str(path))


def _corners(search: Search) -> Iterator[tuple[str, Choice]]:
    for name, of in search.space.items():
        yield from ((name, value) for value in ((of.low, of.high) if isinstance(of, Range) else of))


def require(path: Path, what: str) -> Path:
    """The absolute path of an input. Raises: `UserError` if it is not there."""
    if not path.exists():
        raise UserError(f"search: --{what} is missing", f"no {path}", "run the pipeline up to shard (dvc repro shard)")
    return path.resolve()

"""Read the search space: a YAML file with a range or a list of choices for each dotted name under `pretrain`.

In: that file and the values of params.yaml. Out: validated settings, and params with values replaced. Pure except for reading.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.frame.errors import ParamError
from pipeline.frame.settings import Count, ParamsSection, Seed, check_section, read_yaml
from pipeline.params import Params, check_params

Choice = bool | int | float | str | None
Values = Mapping[str, Choice]  # dotted name → value
DEFAULT_TRIALS = 20
DIGITS = (
    3  # significant digits of numbers drawn from a range, so that the printed values are exactly those that were run
)


class Range(ParamsSection):
    """A range of numbers, of integers if both ends are integers."""

    low: int | float
    high: int | float
    log: bool = False  # drawn uniformly on a logarithmic scale

    @model_validator(mode="after")
    def check_bounds(self) -> Range:
        if self.low >= self.high:
            raise ValueError("low must be less than high")
        if self.log and self.low <= 0:
            raise ValueError("low must be above 0 when log is true")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether the range holds integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def contains(self, value: Choice) -> bool:
        """Return whether a value is a number in the range."""
        is_number = isinstance(value, int if self.is_whole else int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # pyright: ignore[reportOperatorIssue]


class Sweep(ParamsSection):
    """The settings of a sweep: the whole file."""

    space: Annotated[dict[str, Range | Annotated[list[Choice], Field(min_length=1)]], Field(min_length=1)]
    set: dict[str, Any] = Field(
        default_factory=dict
    )  # values of all trials that differ from params.yaml, such as a short budget
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    trials: Count | None = None  # default: 20, or the whole grid
    seed: Seed = 1
    use_baseline: bool = True  # the first trial has the values of params.yaml
    use_pruning: bool = True  # stop a trial that is behind the median of the finished ones

    @model_validator(mode="after")
    def check_names(self) -> Sweep:
        ranges = [name for name, of in self.space.items() if isinstance(of, Range)]
        problems = (
            (
                [name for name in self.space if not name.startswith("pretrain.")],
                "only settings under pretrain can vary",
            ),
            (sorted(self.space.keys() & self.set.keys()), "in both space and set; remove one"),
            (ranges if self.sampler == "grid" else [], "a grid needs lists of choices"),
        )
        for names, problem in problems:
            if names:
                raise ValueError(f"{', '.join(names)}: {problem}")
        return self


def load_sweep(path: Path) -> Sweep:
    """Read a search space. Raises: `UserError` if the file is missing, `ParamError` for an invalid setting."""
    return check_section(Sweep, read_yaml(path), str(path))


def count_trials(sweep: Sweep) -> int:
    """Return the number of trials of a sweep."""
    if sweep.sampler == "grid":
        return min(sweep.trials or len(make_grid(sweep)), len(make_grid(sweep)))
    return sweep.trials or DEFAULT_TRIALS


def set_values(params: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of `params` with these dotted names set."""
    changed = copy.deepcopy(dict(params))
    for name, value in values.items():
        *parents, last = name.split(".")
        section = changed
        for parent in parents:
            if not isinstance(section.get(parent), dict):
                section[parent] = {}
            section = section[parent]
        section[last] = value
    return changed


def get_value(params: Mapping[str, Any], name: str) -> Any:
    """Return the value of a dotted name, None if it is not given."""
    value: Any = params
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def find_baseline(sweep: Sweep, params: Mapping[str, Any]) -> dict[str, Choice] | None:
    """Return the values of params.yaml, or None if the space does not contain them."""
    values = {name: get_value(params, name) for name in sweep.space}
    inside = (
        of.contains(values[name]) if isinstance(of, Range) else values[name] in of for name, of in sweep.space.items()
    )
    return values if all(inside) else None


def make_grid(sweep: Sweep) -> list[dict[str, Choice]]:
    """Return every combination of the choices."""
    choices = [list(of) for of in sweep.space.values() if not isinstance(of, Range)]
    return [dict(zip(sweep.space, values, strict=True)) for values in itertools.product(*choices)]


def round_values(values: Values) -> dict[str, Choice]:
    """Return the values with floats rounded to `DIGITS` digits, so that the printed command runs exactly these values."""
    return {name: float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value for name, value in values.items()}


def check_sweep(sweep: Sweep, params: Mapping[str, Any], path: Path) -> Params:
    """Return the params that all trials share, after validating each end of each range and each choice on its own.

    Raises: `ParamError` that names the setting. Combinations that are invalid only together fail as trials.
    """
    base = set_values(params, sweep.set)
    ends = {name: (of.low, of.high) if isinstance(of, Range) else of for name, of in sweep.space.items()}
    start = find_baseline(sweep, base) or {name: values[0] for name, values in ends.items()}
    for name, value in ((name, value) for name, values in ends.items() for value in values):
        try:
            check_params(set_values(base, {**start, name: value}), str(path))
        except ParamError as error:
            if name in error.what:
                raise
    return check_params(set_values(base, start), str(path))

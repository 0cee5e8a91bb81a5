"""Sampling settings: the one definition for the model, the assistant, its flags and its requests.

Needs the standard library only, so that a command line is checked before torch is imported.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


def _make_field(default: float, low: float, high: float, about: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "about": about})


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the tokens of an answer are chosen. Each field has its bounds and its help text.

    Raises: ValueError for a value of another type or out of bounds.
    """

    max_tokens: int = _make_field(128, 1, 1_000_000, "maximum length of the answer in tokens")
    temperature: float = _make_field(0.0, 0, 10, "0 = greedy")
    top_k: int = _make_field(0, 0, 1_000_000, "0 = all tokens")
    top_p: float = _make_field(1.0, 1e-6, 1, "1 = all tokens")
    seed: int = _make_field(0, 0, 2**63 - 1, "used with a temperature above 0")

    def __post_init__(self) -> None:
        for setting in fields(self):
            name, value, is_int = setting.name, getattr(self, setting.name), setting.type == "int"
            if isinstance(value, bool) or not isinstance(value, int if is_int else (int, float)):
                kind = "an integer" if is_int else "a number"
                raise ValueError(f"{name} must be {kind}; found {value!r}; change it.")
            low, high = setting.metadata["low"], setting.metadata["high"]
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low} to {high}; found {value!r}; change it.")

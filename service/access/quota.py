"""What a key or a tenant may use."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

MAX_AMOUNT = 10**12  # of any limit: more is no limit


@dataclass(frozen=True)
class Quota:
    """Limits per key or tenant; None: no limit, 0: nothing is allowed. Tokens are those of prompts and answers together."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    tokens_per_day: int | None = None
    concurrent: int | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the limits of a JSON object. Raises: ValueError for unknown names and for what is no amount."""
        names = {field.name for field in fields(cls)}
        for name, value in values.items():
            if name not in names:
                raise ValueError(f"limits.{name[:80]}: there is no such limit; use {', '.join(sorted(names))}.")
            is_amount = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_AMOUNT
            if value is not None and not is_amount:
                raise ValueError(
                    f"limits.{name}: must be null or an integer from 0 to {MAX_AMOUNT}; found {str(value)[:80]!r}; correct it."
                )
        return cls(**values)

    def to_json(self) -> dict[str, int | None]:
        """Return the limits that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}

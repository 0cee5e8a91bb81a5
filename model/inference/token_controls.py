"""Change what may be generated next: penalties, biases, a minimum length, and a mask of a constraint.

In: the logits of one row, and what the request has generated so far. Out: the same row, changed in place, in the order in which
OpenAI documents it: bias, then penalties; then what is forbidden. A constraint has the last word.
Time: O(changed tokens); a constraint takes its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class TokenMask(Protocol):
    """A constraint of one answer (model.constraints). What it raises ends the answer."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing but the end can follow."""
        ...

    def mask(self, logits: Floats) -> None:
        """Set the logits of all tokens that can't follow to -inf, in place."""
        ...

    def accept(self, index: int) -> None:
        """Advance by a chosen token."""
        ...


@dataclass(frozen=True, eq=False)
class LogitControls:
    """What changes the logits of one answer. The stop ids are not chosen before `min_tokens`.
    `n_logprobs`: how many alternatives to report with each token; None: no log-probabilities."""

    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    min_tokens: int = 0
    n_logprobs: int | None = None
    constraint: TokenMask | None = None

    @property
    def is_neutral(self) -> bool:
        """Whether logits stay as they are, and nothing is reported."""
        has_penalty = self.frequency_penalty != 0 or self.presence_penalty != 0
        has_bans = self.min_tokens > 0 or self.constraint is not None
        return not (has_penalty or has_bans or self.logit_bias or self.n_logprobs is not None)


class LogitProcessor:
    """Applies the controls of one answer, and counts its tokens for the penalties."""

    def __init__(self, controls: LogitControls, stop_ids: frozenset[int], vocab_size: int) -> None:
        self.controls = controls
        bias = {index: value for index, value in controls.logit_bias.items() if 0 <= index < vocab_size}
        self._biased = np.fromiter(bias, np.int64), np.fromiter(bias.values(), np.float32)
        self._stops = np.array(sorted(stop_ids), np.int64)
        self._counts: dict[int, int] = {}
        self._n_chosen = 0

    def change(self, logits: Floats) -> None:
        """Apply everything to a row of logits, in place. Raises: what the constraint raises."""
        controls = self.controls
        logits[self._biased[0]] += self._biased[1]
        if self._counts and (controls.frequency_penalty or controls.presence_penalty):
            ids, counts = np.fromiter(self._counts, np.int64), np.fromiter(self._counts.values(), np.float32)
            logits[ids] -= counts * np.float32(controls.frequency_penalty) + np.float32(controls.presence_penalty)
        if controls.constraint is not None:
            controls.constraint.mask(logits)
        elif self._n_chosen < controls.min_tokens:
            logits[self._stops] = -np.inf

    def accept(self, index: int) -> bool:
        """Count a chosen token. Return whether the constraint's answer is complete with it."""
        self._n_chosen += 1
        self._counts[index] = self._counts.get(index, 0) + 1
        if self.controls.constraint is None:
            return False
        self.controls.constraint.accept(index)
        return self.controls.constraint.is_complete

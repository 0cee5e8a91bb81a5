"""Score texts by the harm they ask for: messages of users, passages, tool results, and what the assistant is about to say.

In: the folder `guard` of a version, and texts. Out: a probability in [0, 1] per category (`CATEGORIES`, and `harm` for any of them
but `persona` and `injection`). What follows from a score is a policy's decision, not the guard's: `DEFAULT_THRESHOLDS` are those of
the terminal chat. Thread-safe: a guard is read only. Time: below 1 ms a text.

Covers, does not cover: model/guard/harm_classifier.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.guard.categories import CATEGORIES, HARM, NOT_HARM, OUTPUTS
from model.guard.harm_classifier import ABOUT, HarmClassifier

__all__ = ["CATEGORIES", "DEFAULT_THRESHOLDS", "HARM", "NOT_HARM", "OUTPUTS", "Guard"]

Place = str  # input, passage, tool_result or output
# From which score on a text is acted on, where no policy says otherwise. Passages of documents are scored for orders only: a
# handbook that names poisons harms nobody.
DEFAULT_THRESHOLDS: Mapping[Place, Mapping[str, float]] = {
    "input": {HARM: 0.6},  # one question to the documentation in a hundred is refused; 0.5: two
    "passage": {"injection": 0.7},
    "tool_result": {"injection": 0.7},
    "output": {HARM: 0.8},
}


class Guard:
    """A loaded classifier. `categories` are the names in the scores, `harm` last."""

    def __init__(self, classifier: HarmClassifier) -> None:
        self._classifier = classifier
        self.categories = classifier.categories

    @classmethod
    def load(cls, folder: Path) -> Guard:
        """Read the folder that the stage guard wrote, or a version's. Raises: ValueError for one that is missing or damaged."""
        return cls(HarmClassifier.load(folder))

    def score(self, texts: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Return the probabilities of all texts by category."""
        scores = self._classifier.score(texts)
        return {name: scores[:, column] for column, name in enumerate(self.categories)}

    def score_text(self, text: str) -> dict[str, float]:
        """Return the probabilities of one text by category."""
        scores = self._classifier.score([text])[0]
        return {name: float(score) for name, score in zip(self.categories, scores, strict=True)}


def find_guard(model: Path) -> Path | None:
    """Return the folder `guard` beside a model folder (of a link: beside the link); None if there is none, as in early versions."""
    folder = Path(os.path.normpath(model / ".." / "guard"))
    return folder if (folder / ABOUT).is_file() else None


def find_exceeded(scores: Mapping[str, float], thresholds: Mapping[str, float]) -> list[str]:
    """Return the categories whose score reaches its threshold, the highest score first."""
    reached = [name for name, limit in thresholds.items() if scores.get(name, 0.0) >= limit]
    return sorted(reached, key=lambda name: -scores[name])

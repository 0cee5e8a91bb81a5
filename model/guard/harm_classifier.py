"""Classify texts by what harm they ask for: one calibrated probability per category.

In: texts from anywhere. Out: for each text and category a probability in [0, 1]. A text is read without its disguises
(readings.py); a long one is read in windows and by sentences, of which the worst counts: harmless text around a request does not
hide it. The model is logistic regression over hashed features, one output per category, each calibrated by Platt's sigmoid on
themes that training had not seen. Files: `guard.json` (format, categories) and `guard.safetensors` (weights, calibration).
Time: 0.1 ms for a question, 0.1 ms for each further window of 60 words. Memory: 4 MB, 2 MB on disk.

Covers: English. Does not cover: texts in other languages, and what a harmless wording means by its context.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from model.guard.readings import list_readings
from model.guard.word_features import N_BUCKETS, FeatureRows, make_features

ABOUT, WEIGHTS = "guard.json", "guard.safetensors"
FORMAT = 1  # of the folder, and of the features: a change of either needs another number
WINDOW_WORDS = 60
MAX_WINDOWS = 2_000  # of one text: 60,000 words; texts that are longer are refused long before
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|\n+")

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class HarmClassifier:
    """The weights (buckets × outputs), the biases, and slope and offset of each output's calibration."""

    categories: tuple[str, ...]
    weights: Floats  # stored as float16
    biases: Floats
    slopes: Floats
    offsets: Floats

    @classmethod
    def load(cls, folder: Path) -> HarmClassifier:
        """Read a folder that the stage guard wrote. Raises: ValueError for a file that is missing, damaged or of another format."""
        try:
            about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
            arrays = load_file(folder / WEIGHTS)
            found = about["format"]
            categories = tuple(str(name) for name in about["categories"])
            weights, *others = (arrays[name] for name in ("weights", "biases", "slopes", "offsets"))
            made = cls(categories, weights.astype(np.float32), *others)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError(_describe_damage(folder, f"{type(error).__name__}: {error}")) from error
        if found != FORMAT or made.weights.shape != (N_BUCKETS, len(categories)) or weights.dtype != np.float16:
            raise ValueError(_describe_damage(folder, f"format {found}, weights {made.weights.shape}"))
        if any(array.shape != (len(categories),) for array in (made.biases, made.slopes, made.offsets)):
            raise ValueError(_describe_damage(folder, "a calibration of another size"))
        return made

    def save(self, folder: Path) -> None:
        """Write the folder; equal classifiers give equal bytes."""
        about = {"format": FORMAT, "categories": list(self.categories)}
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        others = {name: np.ascontiguousarray(getattr(self, name)) for name in ("biases", "slopes", "offsets")}
        save_file({"weights": self.weights.astype(np.float16), **others}, folder / WEIGHTS)

    def score(self, texts: Sequence[str]) -> Floats:
        """Return a probability per text and category: the largest of all windows of all readings."""
        pieces: list[str] = []
        owners: list[int] = []
        for row, text in enumerate(texts):
            windows = [window for reading in list_readings(text) for window in cut_windows(reading)]
            pieces += windows
            owners += [row] * len(windows)
        out = np.zeros((len(texts), len(self.categories)), np.float32)
        if pieces:
            np.maximum.at(out, np.array(owners), self.score_folded(pieces))
        return out

    def score_folded(self, texts: Sequence[str]) -> Floats:
        """Return a probability per folded text and category, each text as it is."""
        return self.calibrate(sum_weights(make_features(texts), self.weights, self.biases))

    def calibrate(self, logits: Floats) -> Floats:
        """Return the probabilities of raw outputs."""
        return (1 / (1 + np.exp(-np.clip(self.slopes * logits + self.offsets, -30, 30)))).astype(np.float32)


def cut_windows(text: str) -> list[str]:
    """Return a text in windows of about `WINDOW_WORDS` words, each with half of the one before; a short text is one window.

    The sentences of a text that has several are windows too: what surrounds a request does not dilute it."""
    words = text.split()
    if not words:
        return []
    step = WINDOW_WORDS // 2
    starts = range(0, max(len(words) - step, 1), step)
    windows = [" ".join(words[start : start + WINDOW_WORDS]) for start in starts]
    sentences = [part for part in _SENTENCE_END.split(text) if part.strip()]
    if len(sentences) > 1:
        windows += [part for part in sentences if part.count(" ") < WINDOW_WORDS]
    return list(dict.fromkeys(windows))[:MAX_WINDOWS]


def sum_weights(rows: FeatureRows, weights: Floats, biases: Floats) -> Floats:
    """Return the raw outputs: the sum of the weights of a row's features over the root of their number, plus the bias."""
    return _sum_weights(rows.buckets, rows.offsets, weights, biases)


@numba.njit(cache=True, nogil=True)
def _sum_weights(
    buckets: NDArray[np.int32], offsets: NDArray[np.int64], weights: Floats, biases: Floats
) -> Floats:  # pragma: no cover (compiled)
    n_rows, n_outputs = len(offsets) - 1, weights.shape[1]
    out = np.empty((n_rows, n_outputs), np.float32)
    for row in range(n_rows):
        n = max(offsets[row + 1] - offsets[row], 1)
        scale = np.float32(1.0 / np.sqrt(n))
        for k in range(n_outputs):
            total = np.float32(0)
            for at in range(offsets[row], offsets[row + 1]):
                total += weights[buckets[at], k]
            out[row, k] = total * scale + biases[k]
    return out


def _describe_damage(folder: Path, found: str) -> str:
    return (
        f"{folder} is not a readable guard; found: {' '.join(found.split())[:200]}; write it again: run the stage guard "
        "(make run), or pull the version"
    )

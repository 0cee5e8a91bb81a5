"""Turn texts into vectors of unit length: the mean of their words' vectors.

In: texts. Out: float32 rows of `width` numbers; a text without a known word has zeros, whose cosine to everything is 0. A word that
occurs n times counts 1 + log n. The length of a word's vector is its weight, which training chose (pipeline/embed). Such averages
of words are hard to beat for retrieval at this size (Arora, Liang & Ma, ICLR 2017) and take microseconds.

Memory: 512 bytes a word, once per file. Time: about 20 µs a query, 3 CPU-s for 60,000 units of 40 MB. The same texts give the same
vectors, alone or in a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, cast
from weakref import WeakValueDictionary

import numba
import numpy as np
from numpy.typing import NDArray

from model.retrieval.mapped_arrays import describe_foreign, map_arrays, write_arrays
from model.retrieval.reranking.unit_parts import UnitParts
from model.retrieval.word_stems import WordIds, split_texts

FILE = "embedder.arrow"
ARRAYS = ("word_bytes", "word_ends", "vectors", "width")
Vectors = NDArray[np.float32]
Rows = NDArray[np.int32]
jit = cast("Any", numba.njit)(cache=True, nogil=True)
_LOADED: WeakValueDictionary[tuple[int, ...], Embedder] = WeakValueDictionary()  # by file, while it is in use
_LOADING = Lock()


class Embedder:
    """Holds a vector for each known word; words are in the order of their bytes."""

    def __init__(self, words: Sequence[str], vectors: NDArray[np.float16]) -> None:
        self.words = list(words)
        self.vectors: Vectors = vectors.astype(np.float32)  # stored with 16 bits, which changes no ranking
        self.width = vectors.shape[1]
        self._rows = {word: row for row, word in enumerate(words)}

    @cached_property
    def directions(self) -> Vectors:
        """The vectors with length 1; as large as they are, so they are computed where they are used."""
        norms = np.sqrt((self.vectors * self.vectors).sum(axis=1, keepdims=True))
        return self.vectors / np.maximum(norms, np.float32(1e-9))

    @classmethod
    def load(cls, folder: Path) -> Embedder:
        """Read the file of a folder; users of one file share it. Raises: ValueError for a file that is missing, truncated or
        foreign."""
        with _LOADING:
            try:
                status = (folder / FILE).stat()
            except OSError:
                return cls._read(folder)
            key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)
            if (shared := _LOADED.get(key)) is None:
                shared = _LOADED[key] = cls._read(folder)
            return shared

    @classmethod
    def _read(cls, folder: Path) -> Embedder:
        arrays = map_arrays(folder / FILE, ARRAYS)
        ends, vectors = arrays["word_ends"], arrays["vectors"]
        n_words = len(ends)
        width = int(arrays["width"][0]) if len(arrays["width"]) == 1 else 0
        if (
            width < 1
            or len(vectors) != n_words * width
            or vectors.dtype != np.float16
            or not np.isfinite(vectors).all()
        ):
            raise ValueError(describe_foreign(folder / FILE, f"{len(vectors)} numbers of {n_words} words"))
        text = arrays["word_bytes"].tobytes()
        words = [text[start:end].decode("utf-8") for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        return cls(words, vectors.reshape(n_words, width))

    def save(self, folder: Path) -> None:
        """Write the file."""
        encoded = [word.encode("utf-8") for word in self.words]
        arrays = {
            "word_bytes": np.frombuffer(b"".join(encoded), np.uint8),
            "word_ends": np.cumsum([len(word) for word in encoded], dtype=np.int64),
            "vectors": self.vectors.astype(np.float16).ravel(),  # exact: they came from 16 bits
            "width": np.array([self.width]),
        }
        write_arrays(folder / FILE, arrays)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row per text."""
        return self.embed_words(split_texts(texts))

    def embed_units(self, parts: UnitParts) -> Vectors:
        """Return one row per unit of a segment: title, first sentence and the rest together."""
        return self.embed(parts.join())

    def embed_words(self, words: WordIds) -> Vectors:
        """Return one row per text that is split already."""
        return self.embed_rows(self.find_rows(words.words)[words.ids], words.offsets[:-1], words.offsets[1:])

    def embed_rows(self, rows: Rows, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Vectors:
        """Return one row per text, whose words are the rows from start to end; those below 0 are unknown."""
        out = np.zeros((len(starts), self.width), np.float32)
        _embed(rows, starts, ends, self.vectors, out)
        return out

    def find_rows(self, words: Sequence[str]) -> Rows:
        """Return the row of each word, -1 for an unknown one."""
        return np.array([self._rows.get(word, -1) for word in words], np.int32)


@jit
def _embed(rows: Any, starts: Any, ends: Any, vectors: Any, out: Any) -> Any:  # pragma: no cover (compiled)
    """Add up the vectors of each text's words in ascending order of rows, then scale to unit length."""
    width = vectors.shape[1]
    for text in range(len(starts)):
        ordered = np.sort(rows[starts[text] : ends[text]])
        at = 0
        while at < len(ordered):
            end = at + 1
            while end < len(ordered) and ordered[end] == ordered[at]:
                end += 1
            if ordered[at] >= 0:
                factor = np.float32(1 + np.log(end - at))
                line = vectors[ordered[at]]
                for i in range(width):
                    out[text, i] += factor * line[i]
            at = end
        total = np.float32(0)
        for i in range(width):
            total += out[text, i] * out[text, i]
        if total > 0:
            scale = np.float32(1) / np.sqrt(total)
            for i in range(width):
                out[text, i] *= scale

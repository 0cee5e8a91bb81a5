"""Ids → train or val, by a hash of the id and a seed: a document keeps its side when others come and go."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash
from numpy.typing import NDArray


def is_val(ids: Iterable[str], frac: float, seed: int) -> NDArray[np.bool_]:
    """True for about `frac` of the ids (0 … 1)."""
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(id_.encode(), seed) for id_ in ids), dtype=np.uint64)
    return hashes.astype(np.float64) < frac * 2.0**64

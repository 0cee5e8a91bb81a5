"""Ids → train or val, and a place in a random order, by hashes of the id and a seed: both stay when others come and go."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash
from numpy.typing import NDArray


def is_val(ids: Iterable[str], frac: float, seed: int) -> NDArray[np.bool_]:
    """True for about `frac` of the ids (0 … 1)."""
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(id_.encode(), seed) for id_ in ids), dtype=np.uint64)
    return hashes.astype(np.float64) < frac * 2.0**64


def order_keys(ids: Iterable[str], seed: int) -> NDArray[np.uint64]:
    """Sorting by these keys is a random order; independent of the split's hashes."""
    return np.fromiter((xxhash.xxh3_64_intdigest(f"order\0{id_}".encode(), seed) for id_ in ids), dtype=np.uint64)

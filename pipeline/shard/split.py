"""Assign ids to train or val, and to positions in a random order, by hashes of the id and a seed.

Both stay the same when other ids are added or removed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import xxhash
from numpy.typing import NDArray


def is_val(ids: Iterable[str], frac: float, seed: int) -> NDArray[np.bool_]:
    """Return True for each id in val: a fraction of about `frac` (0 … 1)."""
    hashes = np.fromiter((xxhash.xxh3_64_intdigest(id_.encode(), seed) for id_ in ids), dtype=np.uint64)
    return hashes.astype(np.float64) < frac * 2.0**64


def compute_order_keys(ids: Iterable[str], seed: int) -> NDArray[np.uint64]:
    """Return sort keys of a random order, independent of the hashes of `is_val`."""
    return np.fromiter((xxhash.xxh3_64_intdigest(f"order\0{id_}".encode(), seed) for id_ in ids), dtype=np.uint64)

"""Who survives among documents that say the same: a rule, not an accident.

In: columns of sources, lengths, ids and texts. Out: an order of the documents, best first, and for each the best one with the same
text. The order is by the place of the source in a list of prefixes, then length (the longer text), then id (the smaller).
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from pipeline.text.columns import Rows


def priorities(sources: pa.StringArray, prefixes: Sequence[str]) -> pa.Array:
    """Place of the first prefix that fits each source; a source that none fits comes last."""
    encoded = sources.dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    places = [
        next((i for i, prefix in enumerate(prefixes) if name.startswith(prefix)), len(prefixes)) for name in names
    ]
    return pa.array(places, pa.int64()).take(encoded.indices)


def digests(squeezed: pa.StringArray) -> pa.Array:
    """XXH3 with 128 bits of each text (`normalize.squeeze`): equal digests are taken for equal texts."""
    texts: list[bytes] = squeezed.cast(pa.binary()).to_pylist()
    return pa.array([xxhash.xxh3_128_digest(text) for text in texts], pa.binary(16))


def order(table: pa.Table) -> Rows:
    """Row numbers, best document first. The table has columns priority, n_bytes, id."""
    by = [("priority", "ascending"), ("n_bytes", "descending"), ("id", "ascending")]
    return pc.sort_indices(table, sort_keys=by).to_numpy().astype(np.int64)


def first_equal(digest: pa.Array | pa.ChunkedArray) -> Rows:
    """For each row the first row with the same digest."""
    whole = digest.combine_chunks() if isinstance(digest, pa.ChunkedArray) else digest
    codes = whole.dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)  # codes count up from 0, so a code is a place in `first`
    return first.astype(np.int64)[codes]

"""Define which of several duplicate documents survives, independent of the order of files.

In: columns of sources, lengths, ids and texts. Out: an order of the documents, best first, and for each the best one with the same
text. The order is by the index of the source in a list of prefixes, then length (longer first), then id (smaller first).
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


def compute_priorities(
    sources: pa.StringArray, prefixes: Sequence[str], is_search_only: pa.BooleanArray | None = None
) -> pa.Array:
    """Return for each source the index of the first prefix that it starts with; a source without one comes last, and documents
    for search only come after all others, so that none of them replaces a document of the training text."""
    encoded = sources.dictionary_encode()
    names: list[str] = encoded.dictionary.to_pylist()
    indices = [
        next((i for i, prefix in enumerate(prefixes) if name.startswith(prefix)), len(prefixes)) for name in names
    ]
    priorities = pa.array(indices, pa.int64()).take(encoded.indices)
    if is_search_only is None:
        return priorities
    return pc.if_else(pc.fill_null(is_search_only, False), pc.add(priorities, len(prefixes) + 1), priorities)


def hash_titles(titles: pa.StringArray, sources: pa.StringArray, prefixes: Sequence[str]) -> pa.Array:
    """Return XXH3-64 of each title, 0 for a document without a title or of a source that starts with none of the prefixes."""
    rows = zip(titles.to_pylist(), sources.to_pylist(), strict=True)
    named = [bool(title) and source.startswith(tuple(prefixes)) for title, source in rows]
    hashes = [
        xxhash.xxh3_64_intdigest(title.encode()) if is_named else 0
        for title, is_named in zip(titles.to_pylist(), named, strict=True)
    ]
    return pa.array(hashes, pa.uint64())


def compute_digests(squeezed: pa.StringArray) -> pa.Array:
    """Return XXH3-128 of each text (as `normalize.squeeze` returns it): equal digests count as equal texts."""
    texts: list[bytes] = squeezed.cast(pa.binary()).to_pylist()
    return pa.array([xxhash.xxh3_128_digest(text) for text in texts], pa.binary(16))


def order_documents(table: pa.Table) -> Rows:
    """Return the row numbers, best document first. The table has the columns priority, n_bytes, id."""
    by = [("priority", "ascending"), ("n_bytes", "descending"), ("id", "ascending")]
    return pc.sort_indices(table, sort_keys=by).to_numpy().astype(np.int64)


def find_first_equal(digest: pa.Array | pa.ChunkedArray) -> Rows:
    """Return for each row the first row with the same digest."""
    whole = digest.combine_chunks() if isinstance(digest, pa.ChunkedArray) else digest
    codes = whole.dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)  # codes count up from 0, so a code is an index into `first`
    return first.astype(np.int64)[codes]

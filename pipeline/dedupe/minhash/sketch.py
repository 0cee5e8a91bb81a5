"""Sketch texts for duplicate search: a digest of the normalized text, its shingles, its MinHash signature.

In: columns of ids and texts, one batch at a time. Out: columns of the same length. Memory: 8 bytes per word, and 4 per permutation
and document. Time: linear. Shingles are in the order of the text; `shingles.make_sets` turns rows into sets where needed.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from pipeline.dedupe.minhash import signatures as minhash
from pipeline.dedupe.minhash import survivors
from pipeline.dedupe.minhash.shingles import Shingles, shingle
from pipeline.dedupe.minhash.signatures import Signatures
from pipeline.dedupe.minhash.visible import fold_visible
from pipeline.text.normalize import split_words, squeeze


class Sketches(NamedTuple):
    """Hold the sketches of documents: row i of each column belongs to document i. `digests` is binary(16); equal digests count as
    equal texts."""

    ids: pa.StringArray
    digests: pa.FixedSizeBinaryArray
    shingles: Shingles
    signatures: Signatures


def sketch(ids: pa.StringArray, texts: pa.StringArray, ngram_words: int, permuted: Signatures) -> Sketches:
    """Return the sketches of a batch; `permuted` is the result of `draw_permutations`."""
    folded = fold_visible(texts)
    shingles = shingle(split_words(folded), ngram_words)
    return Sketches(
        ids, survivors.compute_digests(squeeze(folded)), shingles, minhash.compute_signatures(shingles, permuted)
    )

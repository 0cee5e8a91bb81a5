"""Texts to what duplicate search keeps of them: a digest of the normalised text, its shingles, its MinHash signature.

In: columns of ids and texts, one batch at a time. Out: columns as long. Memory: 8 bytes a word and 4 a permutation and document.
Time: linear. The shingles come as they stand in the text; `shingles.as_sets` makes sets of those rows that need it.
"""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from pipeline.dedupe.minhash import signatures as minhash
from pipeline.dedupe.minhash import survivors
from pipeline.dedupe.minhash.shingles import Shingles, shingle
from pipeline.dedupe.minhash.signatures import Signatures
from pipeline.text.normalize import fold, split_words, squeeze


class Sketches(NamedTuple):
    """Row i of each column belongs to document i. `digests` is binary(16); equal digests are taken for equal texts."""

    ids: pa.StringArray
    digests: pa.FixedSizeBinaryArray
    shingles: Shingles
    signatures: Signatures


def sketch(ids: pa.StringArray, texts: pa.StringArray, ngram_words: int, permuted: Signatures) -> Sketches:
    """`permuted` comes from `minhash.permutations`."""
    folded = fold(texts)
    shingles = shingle(split_words(folded), ngram_words)
    return Sketches(ids, survivors.digests(squeeze(folded)), shingles, minhash.signatures(shingles, permuted))

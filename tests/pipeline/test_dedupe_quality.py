"""How many of the near duplicates that we made are found, and is what is found true? Beside datasketch's MinHashLSH.

Pairs are labelled by how they were made (words edited, blocks put in another order, cut short, a template filled in twice), and
by their true Jaccard over the same 5-grams. `ours` and `peer` are the recall of pairs at Jaccard 0.85 or more: for ours copies
and verified pairs, for the peer those that its index returns, with the same bands. Precision is the share of all returned pairs
whose true Jaccard reaches the threshold of the params.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import datasketch
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Result
from benchmarks.signatures import low_half
from pipeline.params import Dedupe
from pipeline.sketches import SETTINGS
from pipeline.text.in_memory import deduplicate
from pipeline.text.minhash import SCHEME

SEED, N_FAMILIES, N_WORDS, MIN_RECALL_JACCARD = 1, 3_000, 300, 0.85
PARAMS = Dedupe(
    seed=SEED, ngram_words=5, n_bands=14, n_rows=8, min_jaccard=0.8, source_priority=[]
)  # as in params.yaml
N_PERMUTATIONS = PARAMS.n_bands * PARAMS.n_rows

Words = list[str]


class Pair(NamedTuple):
    """Documents 2i and 2i + 1: how the second was made of the first, and their true Jaccard."""

    kind: str
    jaccard: float


def edited(words: Words, rng: random.Random, strength: float) -> Words:
    """Words replaced, put in and left out."""
    made = list(words)
    for _ in range(1 + int(strength * 12)):
        at = rng.randrange(len(made))
        new = [[new_word(rng)], [made[at], new_word(rng)], []][rng.randrange(3)]
        made[at : at + 1] = new
    return made


def reordered(words: Words, rng: random.Random, strength: float) -> Words:
    """Blocks in another order."""
    n_blocks = 2 + int(strength * 8)
    cuts = sorted(rng.sample(range(1, len(words)), n_blocks - 1))
    blocks = [words[a:b] for a, b in zip([0, *cuts], [*cuts, len(words)], strict=True)]
    rng.shuffle(blocks)
    return [word for block in blocks for word in block]


def cut_short(words: Words, rng: random.Random, strength: float) -> Words:
    """The beginning or the end is missing."""
    n = 1 + int(strength * 0.25 * len(words))
    return words[n:] if rng.random() < 0.5 else words[:-n]


def filled_in(words: Words, rng: random.Random, strength: float) -> Words:
    """A template's slots: the same few names, wherever they occur."""
    slots = set(rng.sample(range(len(words)), 1 + int(strength * 8)))
    return [new_word(rng) if i in slots else word for i, word in enumerate(words)]


KINDS: dict[str, Callable[[Words, random.Random, float], Words]] = {
    "edits": edited,
    "reorderings": reordered,
    "truncations": cut_short,
    "template swaps": filled_in,
}


def new_word(rng: random.Random) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9)))


def grams(text: str) -> set[str]:
    words = text.split()
    return {" ".join(words[i : i + 5]) for i in range(len(words) - 4)}


def jaccard(left: str, right: str) -> float:
    a, b = grams(left), grams(right)
    return len(a & b) / len(a | b)


def labelled() -> tuple[list[str], list[Pair]]:
    """Pairs of documents; vocabulary and length of real prose, so that unlike documents share 5-grams hardly ever."""
    rng = random.Random(SEED)
    vocabulary = [new_word(rng) for _ in range(5_000)]
    documents: list[str] = []
    pairs: list[Pair] = []
    for i in range(N_FAMILIES):
        kind = list(KINDS)[i % len(KINDS)]
        first = rng.choices(vocabulary, k=N_WORDS)
        second = KINDS[kind](first, rng, rng.random())
        documents += [" ".join(first), " ".join(second)]
        pairs.append(Pair(kind, jaccard(*documents[-2:])))
    return documents, pairs


def found_by_us(documents: list[str]) -> set[tuple[int, int]]:
    """Copies and verified pairs, by document."""
    n = len(documents)
    table = pa.table({"id": [f"{i:06d}" for i in range(n)], "text": documents, "source": pa.repeat("", n)})
    found = deduplicate(table, **PARAMS.model_dump(include=SETTINGS | {"min_jaccard"}))
    copies = np.flatnonzero(found.exact != np.arange(n))
    left, right = np.append(found.pairs.left, found.exact[copies]), np.append(found.pairs.right, copies)
    ends = np.sort(found.order[np.array([left, right])], axis=0)
    return {(int(left), int(right)) for left, right in ends.T}


def found_by_datasketch(documents: list[str]) -> set[tuple[int, int]]:
    lsh = datasketch.MinHashLSH(num_perm=N_PERMUTATIONS, params=(PARAMS.n_bands, PARAMS.n_rows))
    found: set[tuple[int, int]] = set()
    sets = ([gram.encode() for gram in grams(text)] for text in documents)
    made = datasketch.MinHash.generator(sets, num_perm=N_PERMUTATIONS, seed=SEED, hashfunc=low_half, scheme=SCHEME)
    for i, signature in enumerate(made):
        found |= {(int(str(other)), i) for other in lsh.query(signature)}
        lsh.insert(i, signature)
    return found


def run() -> Result:
    """Prints recall by kind and band of Jaccard; returns recall at 0.85 or more, in percent."""
    documents, pairs = labelled()
    ours, peer = found_by_us(documents), found_by_datasketch(documents)
    table = Table("made by", "true Jaccard", "pairs", "found by us", "found by datasketch")
    for kind in [*KINDS, "all"]:
        for low, high in ((0.80, 0.85), (0.85, 0.90), (0.90, 0.95), (0.95, 1.01), (MIN_RECALL_JACCARD, 1.01)):
            rows = [i for i, p in enumerate(pairs) if kind in (p.kind, "all") and low <= p.jaccard < high]
            counts = [sum((2 * i, 2 * i + 1) in found for i in rows) / max(1, len(rows)) for found in (ours, peer)]
            band = f"{low:.2f} to {min(high, 1.0):.2f}"
            table.add_row(kind, band, str(len(rows)), *(f"{count:.1%}" for count in counts))
    Console().print(table)
    rows = [i for i, pair in enumerate(pairs) if pair.jaccard >= MIN_RECALL_JACCARD]
    recall = [100 * sum((2 * i, 2 * i + 1) in found for i in rows) / len(rows) for found in (ours, peer)]
    precision = [
        sum(jaccard(documents[i], documents[j]) >= PARAMS.min_jaccard for i, j in found) / max(1, len(found))
        for found in (ours, peer)
    ]
    work = (
        f"recall of {len(rows)} pairs at true Jaccard {MIN_RECALL_JACCARD} or more, {PARAMS.n_bands} bands of {PARAMS.n_rows}, in "
        f"percent; precision (true Jaccard {PARAMS.min_jaccard} or more) ours {precision[0]:.4f}, peer {precision[1]:.4f}"
    )
    return Result(
        work, "% found", recall[0], recall[1], "datasketch MinHashLSH, same permutations and bands, not verified"
    )

"""The dedupe stage finds synthetic near duplicates, and drops only documents that are similar to their survivors.

Pairs are labeled by how they were made (words edited, blocks reordered, truncated, slots of a template filled again) and by their
true Jaccard similarity over the same 5-grams. With 14 bands of 8 rows, LSH nominates 1 - (1 - 0.85^8)^14 = 98.8 % of pairs at 0.85.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

import pyarrow as pa
import pytest

from pipeline.dedupe import stage as dedupe
from pipeline.dedupe.params import Dedupe
from pipeline.storage.tables import DOCS, ShardWriter, read_table

N_PAIRS, N_WORDS, MIN_RECALL_JACCARD = 3_000, 300, 0.85
PARAMS = Dedupe(seed=1, ngram_words=5, n_bands=14, n_rows=8, min_jaccard=0.8, source_priority=[])  # as in params.yaml
Words = list[str]


class Pair(NamedTuple):
    """Describe how document 2i + 1 was made from document 2i, their true Jaccard similarity, and whether one was dropped for the
    other."""

    kind: str
    jaccard: float
    is_found: bool


def edit(words: Words, rng: random.Random, strength: float) -> Words:
    """Replace, insert and delete words."""
    made = list(words)
    for _ in range(1 + int(strength * 12)):
        at = rng.randrange(len(made))
        made[at : at + 1] = [[new_word(rng)], [made[at], new_word(rng)], []][rng.randrange(3)]
    return made


def reorder(words: Words, rng: random.Random, strength: float) -> Words:
    """Shuffle blocks of words."""
    cuts = sorted(rng.sample(range(1, len(words)), 1 + int(strength * 8)))
    blocks = [words[a:b] for a, b in zip([0, *cuts], [*cuts, len(words)], strict=True)]
    rng.shuffle(blocks)
    return [word for block in blocks for word in block]


def truncate(words: Words, rng: random.Random, strength: float) -> Words:
    """Cut off the beginning or the end."""
    n = 1 + int(strength * 0.25 * len(words))
    return words[n:] if rng.random() < 0.5 else words[:-n]


def fill_slots(words: Words, rng: random.Random, strength: float) -> Words:
    """Replace a few words, as when a template is filled again."""
    slots = set(rng.sample(range(len(words)), 1 + int(strength * 8)))
    return [new_word(rng) if i in slots else word for i, word in enumerate(words)]


KINDS: tuple[Callable[[Words, random.Random, float], Words], ...] = (edit, reorder, truncate, fill_slots)


def new_word(rng: random.Random) -> str:
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9)))


def jaccard(left: str, right: str) -> float:
    a, b = ({" ".join(words[i : i + 5]) for i in range(len(words) - 4)} for words in (left.split(), right.split()))
    return len(a & b) / len(a | b)


def make_documents() -> tuple[list[str], list[str]]:
    """Return the documents and the kind of each pair; unrelated documents hardly ever share a 5-gram."""
    rng = random.Random(1)
    vocabulary = [new_word(rng) for _ in range(5_000)]
    documents: list[str] = []
    for i in range(N_PAIRS):
        first = rng.choices(vocabulary, k=N_WORDS)
        documents += [" ".join(first), " ".join(KINDS[i % len(KINDS)](first, rng, rng.random()))]
    return documents, [KINDS[i % len(KINDS)].__name__ for i in range(N_PAIRS)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Pair], list[float]]:
    """Return the pairs, and the true similarity of each dropped document to its survivor."""
    folder = tmp_path_factory.mktemp("quality")
    documents, kinds = make_documents()
    columns = {name: pa.repeat("", len(documents)) for name in DOCS.names[:-1]}
    columns["is_search_only"] = pa.repeat(False, len(documents))
    with ShardWriter(folder / "docs") as writer:
        writer.write(pa.table({**columns, "id": [f"{i:06d}" for i in range(len(documents))], "text": documents}, DOCS))
    (folder / "out").mkdir()
    dedupe.run(PARAMS, docs=folder / "docs", scratch=folder / "scratch", out=folder / "out")
    ledger = read_table(folder / "out" / "ledger.parquet", ["id", "other_id", "decision"]).to_pylist()
    dropped = {(int(row["id"]), int(row["other_id"])) for row in ledger if row["decision"] == "dropped"}
    pairs = [
        Pair(kind, jaccard(*documents[2 * i : 2 * i + 2]), bool(dropped & {(2 * i, 2 * i + 1), (2 * i + 1, 2 * i)}))
        for i, kind in enumerate(kinds)
    ]
    return pairs, [jaccard(documents[one], documents[other]) for one, other in dropped]


def recall(pairs: list[Pair], low: float, high: float = 1.01) -> float:
    found = [pair.is_found for pair in pairs if low <= pair.jaccard < high]
    assert len(found) >= 50
    return sum(found) / len(found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind.__name__ for kind in KINDS])
def test_near_duplicates_of_every_kind_are_found(run: tuple[list[Pair], list[float]], kind: str) -> None:
    pairs = [pair for pair in run[0] if pair.kind == kind]
    assert recall(pairs, MIN_RECALL_JACCARD) >= 0.99
    assert recall(pairs, 0.95) == 1.0


@pytest.mark.slow
def test_pairs_at_the_threshold_are_found_as_often_as_lsh_predicts(run: tuple[list[Pair], list[float]]) -> None:
    assert recall(run[0], 0.80, 0.85) >= 0.93


@pytest.mark.slow
def test_every_dropped_document_is_similar_to_its_survivor(run: tuple[list[Pair], list[float]]) -> None:
    pairs, similarities = run
    assert len(similarities) == sum(pair.is_found for pair in pairs)
    assert min(similarities) >= PARAMS.min_jaccard
    assert not any(pair.is_found for pair in pairs if pair.jaccard < PARAMS.min_jaccard)

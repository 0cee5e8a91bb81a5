"""A sample on disk has the same documents as one in memory, a share for each source, and held-out documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage.sample import SAMPLED, sample_docs, write_sample
from pipeline.storage.tables import ShardWriter, read_docs
from tests.pipeline.conftest import write_docs, write_with_copies

N_BYTES = 9_000


def draw(docs: Path, folder: Path, shares: Mapping[str, float], heldout_frac: float = 0.0, seed: int = 1) -> pa.Table:
    write_sample(docs, folder, shares, N_BYTES, seed, heldout_frac)
    table = read_docs(folder)
    assert table.schema == SAMPLED
    return table


def size(texts: pa.ChunkedArray | list[str]) -> int:
    return sum(len(str(text).encode()) for text in texts)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Return documents of three sources of different sizes: 2,000 to 40,000 bytes."""
    parts = [
        read_docs(write_docs(tmp_path / name, [f"{name} {number} " + "word " * 30 for number in range(n)], name))
        for name, n in (("a/x", 240), ("a/y", 60), ("b", 12))
    ]
    with ShardWriter(tmp_path / "three", shard_bytes=9_000) as writer:
        writer.write(pa.concat_tables(parts).sort_by("id"))
    return tmp_path / "three"


def test_it_has_the_documents_of_the_sample_in_memory(make_docs: Callable[..., Path], tmp_path: Path) -> None:
    docs = make_docs(100)
    for seed in (1, 2):
        wanted = sample_docs(docs, ["text"], N_BYTES, seed).column("text").to_pylist()
        found = draw(docs, tmp_path / str(seed), {"": 1.0}, seed=seed)
        assert sorted(found.column("text").to_pylist()) == sorted(wanted)
        assert not any(found.column("is_heldout").to_pylist())


def test_held_out_documents_are_others_of_about_the_requested_size(
    make_docs: Callable[..., Path], tmp_path: Path
) -> None:
    docs = make_docs(100)
    found = draw(docs, tmp_path / "s", {"": 1.0}, 0.5)
    parts = {flag: [row["text"] for row in found.to_pylist() if row["is_heldout"] is flag] for flag in (False, True)}
    assert not set(parts[False]) & set(parts[True])
    assert sorted(parts[False]) == sorted(sample_docs(docs, ["text"], N_BYTES, 1).column("text").to_pylist())
    longest = max(size([text]) for text in read_docs(docs, ["text"]).column("text").to_pylist())
    assert N_BYTES / 2 - longest <= size(parts[True]) <= N_BYTES / 2 + longest


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ({"a/x": 1.0, "a/y": 1.0}, {"a/x": 4_500, "a/y": 4_500, "b": 0}),
        ({"a/": 2.0, "b": 1.0}, {"b": 12 * 152}),  # all of its text
        ({"a/y": 1.0, "": 2.0}, {"a/y": 3_000}),  # the longer prefix counts
    ],
)
def test_each_source_gets_its_share(
    shares: dict[str, float], wanted: dict[str, int], three: Path, tmp_path: Path
) -> None:
    found = draw(three, tmp_path / "s", shares)
    for source, n_bytes in wanted.items():
        texts = [row["text"] for row in found.to_pylist() if row["source"] == source]
        assert n_bytes <= size(texts) <= n_bytes + (170 if n_bytes else 0)
    assert size(found.column("text").to_pylist()) <= N_BYTES + 2 * 170


@settings(max_examples=10)
@given(st.lists(st.sampled_from(["a/x", "a/y", "b", ""]), min_size=1, unique=True), st.randoms())
def test_the_order_of_files_and_shares_does_not_matter(prefixes: list[str], rng: object) -> None:
    import random
    import tempfile

    assert isinstance(rng, random.Random)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = pa.concat_tables(
            [
                read_docs(write_docs(folder / f"d{number}", [f"{n} " + "word " * 20 for n in range(40)], source))
                for number, source in enumerate(("a/x", "b", "c"))
            ]
        )
        rows = table.to_pylist()
        rng.shuffle(rows)
        with ShardWriter(folder / "mixed", shard_bytes=rng.choice([5_000, 10**6])) as writer:
            writer.write(pa.Table.from_pylist(rows, schema=table.schema))
        with ShardWriter(folder / "sorted") as writer:
            writer.write(table)
        order = [("source", "ascending"), ("text", "ascending")]
        one = draw(folder / "mixed", folder / "s1", dict.fromkeys(prefixes, 1.0), 0.3)
        two = draw(folder / "sorted", folder / "s2", dict.fromkeys(reversed(prefixes), 1.0), 0.3)
        assert one.sort_by(order) == two.sort_by(order)


def test_documents_for_search_only_are_not_sampled(make_docs: Callable[..., Path], tmp_path: Path) -> None:
    docs = make_docs(60)
    for name, folder in (("alone", docs), ("both", write_with_copies(docs, tmp_path / "docs_and_copies"))):
        write_sample(folder, tmp_path / name, {"": 1.0}, N_BYTES, 1, 0.1)
    alone, both = (read_docs(tmp_path / name, SAMPLED.names) for name in ("alone", "both"))
    assert alone.num_rows > 0
    assert both.equals(alone)

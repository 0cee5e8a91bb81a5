"""The commands of the ledger on generated stage outputs against the plain way: read whole columns with Arrow, then filter.

`--n-docs` documents with texts of about 200 bytes (10 million take 6 GB of disk below `TMPDIR`). The result is the history of
one document by id, for which ours reads only the row groups that may contain it; the details have every command and its memory.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.measure import Result, Row, measure_seconds
from pipeline.download.tombstones import make_tombstone
from pipeline.ledger import takedown
from pipeline.ledger.diff import compare_snapshots
from pipeline.ledger.places import DataSnapshot, DvcCache, list_text_stages
from pipeline.ledger.replay import replay_thresholds
from pipeline.ledger.versions import RegisteredVersions
from pipeline.ledger.why import explain
from pipeline.storage.tables import (
    DOCS,
    TOKEN_DOCS,
    list_shards,
    make_dropped_rows,
    read_docs,
    read_table,
    scan_docs,
    write_table,
)

DOCS_PER_FILE = 16_384
TEXT_BYTES = (100, 300)
SEED = 1
SCORES = {"words": 40.0, "mean_word_chars": 2.0, "alpha_word_frac": 0.1, "dup_line_frac": 0.05, "language_score": 0.04}
PARAM = "filter.gopher_quality.min_words"


class Part(NamedTuple):
    """Hold the documents of one file, and their decisions: 0 duplicate, 1 dropped by a rule, 2 kept."""

    docs: pa.Table
    scores: pa.Table
    decision: np.ndarray


def make_parts(n_docs: int) -> Iterator[Part]:
    """Yield documents in the order of their ids."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    words = np.array(["".join(map(chr, rng.integers(97, 123, rng.integers(2, 10)))) for _ in range(20_000)])
    text = " ".join(words[rng.integers(0, len(words), 4_000_000)]).encode()
    n_files = -(-n_docs // DOCS_PER_FILE)
    for file in range(n_files):
        n = min(DOCS_PER_FILE, n_docs - file * DOCS_PER_FILE)
        yield _make_part(rng, text, n, file, n_files)


def _make_part(rng: np.random.Generator, text: bytes, n: int, file: int, n_files: int) -> Part:
    low, high = file * 2**64 // n_files, (file + 1) * 2**64 // n_files - 1
    ids = format_hexadecimal(
        np.sort(rng.integers(low, high, n, np.uint64)), rng.integers(0, 2**63, n).astype(np.uint64)
    )
    at = int(rng.integers(0, len(text) - n * TEXT_BYTES[1]))
    offsets = (at + np.cumsum(np.append(0, rng.integers(*TEXT_BYTES, n)))).astype(np.int32)
    numbers = pa.array(np.arange(file * DOCS_PER_FILE, file * DOCS_PER_FILE + n)).cast(pa.string())
    sites = pa.array(rng.integers(0, 50_000, n)).cast(pa.string())
    licenses = pa.array(np.array(["MIT", "Apache-2.0", "CC-BY-4.0", "unknown", "CC-BY-NC-4.0 AND MIT"]))
    columns = {
        "id": ids,
        "text": pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text)),
        "source": pa.array(np.array(["warc/one", "warc/two", "wikipedia/en"])).take(pa.array(rng.integers(0, 3, n))),
        "locator": pc.binary_join_element_wise('{"file":"crawl-', sites, '.warc.gz","record":', numbers, "}", ""),
        "title": pc.binary_join_element_wise("Page number ", numbers, ""),
        "url": pc.binary_join_element_wise("https://site", sites, ".example.org/page/", numbers, ""),
        "is_search_only": pa.nulls(n, pa.bool_()),
        "license": licenses.take(pa.array(np.minimum(rng.geometric(0.6, n) - 1, 4))),
    }
    scores = {name: rng.gamma(4.0, scale, n) for name, scale in SCORES.items()}
    decision = np.where(rng.random(n) < 0.1, 0, np.where(scores["words"] >= 50, 2, 1))
    return Part(pa.table(columns, DOCS), pa.table({"id": ids, **scores}), decision)


def format_hexadecimal(high: np.ndarray, low: np.ndarray) -> pa.StringArray:
    """Return 128-bit numbers as 32 hexadecimal digits each."""
    raw = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    characters = np.ascontiguousarray(digits[np.stack([raw >> 4, raw & 15], axis=-1)])
    offsets = np.arange(len(high) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(len(high), pa.py_buffer(offsets), pa.py_buffer(characters))


def write_stages(root: Path, n_docs: int) -> None:
    """Write what the stages would write, and the same for another threshold of the filter (without texts)."""
    folders = {stage: root / stage for stage in (*list_text_stages(), "filter_after")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    write_table(
        folders["download"] / "ledger.parquet", _dropped(pa.array([], pa.string()), "download", "takedown", 1.0)
    )
    survivor = None
    tokens: list[pa.Table] = []
    for number, part in enumerate(make_parts(n_docs)):
        survivor = survivor or part.docs.column("id")[int(np.flatnonzero(part.decision == 2)[0])].as_py()
        name, ids, words = f"{number:05d}.parquet", part.docs.column("id"), part.scores["words"].to_numpy()
        after = np.where((part.decision > 0) & (words < 51), 1, part.decision)
        left = [ids.filter(pa.array(mask)) for mask in (part.decision == 0, part.decision == 1, after == 1)]
        for folder, table in {
            "download/docs-": part.docs,
            "dedupe/docs-": part.docs.filter(pa.array(part.decision > 0)),
            "filter/docs-": part.docs.filter(pa.array(part.decision == 2)),
            "filter_after/docs-": part.docs.filter(pa.array(after == 2)).drop_columns(["text"]),
            "dedupe/ledger-": _dropped(left[0], "dedupe", "near_duplicate", 0.9, survivor),
            "filter/ledger-": _dropped(left[1], "filter", "min_words", 50.0),
            "filter_after/ledger-": _dropped(left[2], "filter", "min_words", 51.0),
            "filter/scores-": part.scores.filter(pa.array(part.decision > 0)),
        }.items():
            write_table(root / f"{folder}{name}", table)
        tokens.append(_tokens(part.docs.filter(pa.array(part.decision == 2))))
    shards = pa.concat_tables(tokens)  # stored in another order
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(shards.num_rows)
    write_table(folders["shard"] / "docs.parquet", shards.take(pa.array(order)))
    for table in ("dedupe/ledger", "filter/ledger", "filter_after/ledger", "filter/scores"):
        _join(root / table)
    rule = {"reason": "min_words", "score": "words", "side": "min", "threshold": 50.0, "param": PARAM}
    others = [
        {"reason": name, "score": name, "side": "min", "threshold": 0.0, "param": f"filter.{name}"} for name in SCORES
    ]
    (folders["filter"] / "rules.json").write_text(json.dumps([rule, *others]))


def _join(table: Path) -> None:
    """Join many files into one, as the stages write it."""
    folder, stem = table.parent, table.name
    parts = list_shards(folder, stem)
    scan_docs(folder, stem).sink_parquet(folder / f"{stem}.parquet", compression="zstd", row_group_size=DOCS_PER_FILE)
    for path in parts:
        path.unlink()


def _dropped(ids: Any, stage: str, reason: str, threshold: float, other: str = "") -> pa.Table:
    n = len(ids)
    values = pa.repeat(threshold, n)
    return make_dropped_rows(
        ids, stage=stage, reason=pa.repeat(reason, n), value=values, threshold=values, other_id=pa.repeat(other, n)
    )


def _tokens(docs: pa.Table) -> pa.Table:
    n = docs.num_rows
    numbers = pa.repeat(0, n)
    columns = {"split": pa.repeat("train", n), "start": numbers, "n_tokens": numbers, "n_bytes": numbers}
    columns |= {name: docs[name] for name in ("id", "source", "license", "title")}
    return pa.table({name: columns[name] for name in TOKEN_DOCS.names})


def count_rows_plainly(data: DataSnapshot, doc_id: str) -> int:
    """Return how many rows a document has, the plain way: read the needed columns whole, with Arrow, then filter them."""
    about = read_docs(data.folders["download"], ["id", "title", "source", "locator", "url", "license"])
    n = about.filter(pc.equal(about["id"], doc_id)).num_rows
    del about
    for path in ("dedupe/ledger", "filter/ledger", "filter/scores", "shard/docs"):
        stage, _, name = path.partition("/")
        table = read_table(data.folders[stage] / f"{name}.parquet")
        n += table.filter(pc.equal(table["id"], doc_id)).num_rows
    return n


def run(*, n_docs: int = 200_000) -> Result:
    """Return how often per hour one document's history can be looked up by id; the details have every command."""
    with tempfile.TemporaryDirectory(prefix="minigpt-ledger-") as name:
        folder = Path(name)
        maker = multiprocessing.get_context("spawn").Process(target=write_stages, args=(folder, n_docs))
        maker.start()  # in its own process, so that its memory does not count
        maker.join()
        assert maker.exitcode == 0
        folders = {stage: folder / stage for stage in list_text_stages()}
        before = DataSnapshot("before", folders)
        after = DataSnapshot("after", folders | {"filter": folder / "filter_after"})
        return measure_commands(before, after, n_docs)


def measure_commands(before: DataSnapshot, after: DataSnapshot, n_docs: int) -> Result:
    """Time every command, then the plain way for the first one, so that the peak memory is ours."""
    path = list_shards(before.final)[n_docs // DOCS_PER_FILE // 2]
    doc: dict[str, Any] = read_table(path, ["id", "url", "title", "text"]).slice(7, 1).to_pylist()[0]
    registry = RegisteredVersions(before.final, DvcCache(before.final))

    def ask(query: str) -> Callable[[], object]:
        return lambda: explain(before, query, [], registry, Path("none"))

    def take(kind: str, value: str) -> Callable[[], object]:
        return lambda: takedown.plan_takedown(
            before, [make_tombstone(kind, value, "asked")], registry, with_duplicates=False
        )

    commands: dict[str, Callable[[], object]] = {
        "why ID": ask(doc["id"]),
        "why TITLE": ask(doc["title"]),
        "why URL": ask(doc["url"]),
        "why TEXT": ask(doc["text"][20:90]),
        "takedown ID": take("id", doc["id"]),
        "takedown --url": take("url", doc["url"]),
        "takedown --domain": take("domain", "site77.example.org"),
        "takedown --license": take("license", "CC-BY-NC-4.0"),
        "diff A B": lambda: compare_snapshots(before, after),
        "replay": lambda: replay_thresholds(before.final, [f"{PARAM}=51"]),
    }
    took = {name: (*measure_best_of_two(command), get_peak_memory_gb()) for name, command in commands.items()}
    plain_seconds, _ = measure_best_of_two(lambda: count_rows_plainly(before, doc["id"]))
    rows: list[Row] = [
        {"command": name, "s": wall, "CPU s": cpu, "peak GB so far": memory}
        for name, (wall, cpu, memory) in took.items()
    ]
    work, peer_name = f"history of a document of {n_docs:,} by id", "Arrow: read whole columns, then filter"
    ours, peer = 3600 / took["why ID"][0], 3600 / plain_seconds
    return Result(work, "answers/hour", ours, peer, peer_name, details=rows)


def measure_best_of_two(call: Callable[[], object]) -> tuple[float, float]:
    """Return wall-clock seconds and processor seconds of the better of two calls; the first one may wait for the disk."""
    rounds: list[tuple[float, float]] = []
    for _ in range(2):
        cpu = time.process_time()
        wall = measure_seconds(call, is_one_core=False)
        rounds.append((wall, time.process_time() - cpu))
    return min(rounds)


def get_peak_memory_gb() -> float:
    """Return the peak resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

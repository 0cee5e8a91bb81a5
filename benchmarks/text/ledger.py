"""The ledger's questions over a made corpus, beside the plain way: read whole columns with Arrow, then filter.

`MINIGPT_LEDGER_DOCS` documents (default 200,000; 10 million take 6 GB of disk below `TMPDIR`), texts of about 200 bytes.
`Result` counts the life of one document by id; the table has every command, and what it took of memory.
"""

# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.table import Table

from benchmarks.measure import Result
from pipeline.ledger import takedown
from pipeline.ledger.diff import diff
from pipeline.ledger.places import STAGES, Cache, Snapshot
from pipeline.ledger.replay import replay
from pipeline.ledger.versions import Registry
from pipeline.ledger.why import why
from pipeline.tables import DOCS, TOKEN_DOCS, dropped_rows, read_docs, read_table, scan_docs, shard_paths, write_table
from pipeline.text.tombstones import tombstone
from pipeline.versions.show import console

DOCS_A_FILE = 16_384
TEXT_BYTES = (100, 300)
SEED = 1
SCORES = {"words": 40.0, "mean_word_chars": 2.0, "alpha_word_frac": 0.1, "dup_line_frac": 0.05, "language_score": 0.04}
PARAM = "filter.gopher_quality.min_words"


class Part(NamedTuple):
    """One file's worth of documents, and what becomes of them: 0 a duplicate, 1 dropped by a rule, 2 stays."""

    docs: pa.Table
    scores: pa.Table
    fate: np.ndarray


def parts(n_docs: int) -> Iterator[Part]:
    """Documents in the order of their ids."""
    rng = np.random.Generator(np.random.PCG64(SEED))
    words = np.array(["".join(map(chr, rng.integers(97, 123, rng.integers(2, 10)))) for _ in range(20_000)])
    text = " ".join(words[rng.integers(0, len(words), 4_000_000)]).encode()
    n_files = -(-n_docs // DOCS_A_FILE)
    for file in range(n_files):
        n = min(DOCS_A_FILE, n_docs - file * DOCS_A_FILE)
        yield _part(rng, text, n, file, n_files)


def _part(rng: np.random.Generator, text: bytes, n: int, file: int, n_files: int) -> Part:
    low, high = file * 2**64 // n_files, (file + 1) * 2**64 // n_files - 1
    ids = hexadecimal(np.sort(rng.integers(low, high, n, np.uint64)), rng.integers(0, 2**63, n).astype(np.uint64))
    at = int(rng.integers(0, len(text) - n * TEXT_BYTES[1]))
    offsets = (at + np.cumsum(np.append(0, rng.integers(*TEXT_BYTES, n)))).astype(np.int32)
    numbers = pa.array(np.arange(file * DOCS_A_FILE, file * DOCS_A_FILE + n)).cast(pa.string())
    sites = pa.array(rng.integers(0, 50_000, n)).cast(pa.string())
    licences = pa.array(np.array(["MIT", "Apache-2.0", "CC-BY-4.0", "unknown", "CC-BY-NC-4.0 AND MIT"]))
    columns = {
        "id": ids,
        "text": pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(text)),
        "source": pa.array(np.array(["warc/one", "warc/two", "wikipedia/en"])).take(pa.array(rng.integers(0, 3, n))),
        "locator": pc.binary_join_element_wise('{"file":"crawl-', sites, '.warc.gz","record":', numbers, "}", ""),
        "title": pc.binary_join_element_wise("Page number ", numbers, ""),
        "url": pc.binary_join_element_wise("https://site", sites, ".example.org/page/", numbers, ""),
        "licence": licences.take(pa.array(np.minimum(rng.geometric(0.6, n) - 1, 4))),
    }
    scores = {name: rng.gamma(4.0, scale, n) for name, scale in SCORES.items()}
    fate = np.where(rng.random(n) < 0.1, 0, np.where(scores["words"] >= 50, 2, 1))
    return Part(pa.table(columns, DOCS), pa.table({"id": ids, **scores}), fate)


def hexadecimal(high: np.ndarray, low: np.ndarray) -> pa.StringArray:
    """128-bit numbers as 32 digits each."""
    raw = np.stack([high, low], axis=1).astype(">u8").view(np.uint8)
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    letters = np.ascontiguousarray(digits[np.stack([raw >> 4, raw & 15], axis=-1)])
    offsets = np.arange(len(high) + 1, dtype=np.int32) * 32
    return pa.StringArray.from_buffers(len(high), pa.py_buffer(offsets), pa.py_buffer(letters))


def make(root: Path, n_docs: int) -> None:
    """What the stages would have left, and the same with another threshold of the filter (without its texts)."""
    folders = {stage: root / stage for stage in (*STAGES, "filter_after")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    write_table(
        folders["download"] / "ledger.parquet", _dropped(pa.array([], pa.string()), "download", "takedown", 1.0)
    )
    survivor = None
    tokens: list[pa.Table] = []
    for number, part in enumerate(parts(n_docs)):
        survivor = survivor or part.docs.column("id")[int(np.flatnonzero(part.fate == 2)[0])].as_py()
        name, ids, words = f"{number:05d}.parquet", part.docs.column("id"), part.scores["words"].to_numpy()
        after = np.where((part.fate > 0) & (words < 51), 1, part.fate)
        left = [ids.filter(pa.array(mask)) for mask in (part.fate == 0, part.fate == 1, after == 1)]
        for folder, table in {
            "download/docs-": part.docs,
            "dedupe/docs-": part.docs.filter(pa.array(part.fate > 0)),
            "filter/docs-": part.docs.filter(pa.array(part.fate == 2)),
            "filter_after/docs-": part.docs.filter(pa.array(after == 2)).drop_columns(["text"]),
            "dedupe/ledger-": _dropped(left[0], "dedupe", "near_duplicate", 0.9, survivor),
            "filter/ledger-": _dropped(left[1], "filter", "min_words", 50.0),
            "filter_after/ledger-": _dropped(left[2], "filter", "min_words", 51.0),
            "filter/scores-": part.scores.filter(pa.array(part.fate > 0)),
        }.items():
            write_table(root / f"{folder}{name}", table)
        tokens.append(_tokens(part.docs.filter(pa.array(part.fate == 2))))
    shards = pa.concat_tables(tokens)  # which lie in another order
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(shards.num_rows)
    write_table(folders["shard"] / "docs.parquet", shards.take(pa.array(order)))
    for folder, stem in (
        ("dedupe", "ledger"),
        ("filter", "ledger"),
        ("filter_after", "ledger"),
        ("filter", "scores"),
    ):
        _join(folders[folder], stem)
    rule = {"reason": "min_words", "score": "words", "side": "min", "threshold": 50.0, "param": PARAM}
    others = [
        {"reason": name, "score": name, "side": "min", "threshold": 0.0, "param": f"filter.{name}"} for name in SCORES
    ]
    (folders["filter"] / "rules.json").write_text(json.dumps([rule, *others]))


def _join(folder: Path, stem: str) -> None:
    """One file of many, as the stages write it."""
    parts = shard_paths(folder, stem)
    scan_docs(folder, stem).sink_parquet(folder / f"{stem}.parquet", compression="zstd", row_group_size=DOCS_A_FILE)
    for path in parts:
        path.unlink()


def _dropped(ids: Any, stage: str, reason: str, threshold: float, other: str = "") -> pa.Table:
    n = len(ids)
    values = pa.repeat(threshold, n)
    return dropped_rows(
        ids, stage=stage, reason=pa.repeat(reason, n), value=values, threshold=values, other_id=pa.repeat(other, n)
    )


def _tokens(docs: pa.Table) -> pa.Table:
    n = docs.num_rows
    numbers = pa.repeat(0, n)
    columns = {"split": pa.repeat("train", n), "start": numbers, "n_tokens": numbers, "n_bytes": numbers}
    columns |= {name: docs[name] for name in ("id", "source", "licence", "title")}
    return pa.table({name: columns[name] for name in TOKEN_DOCS.names})


class Plain:
    """The peer: every question reads the columns it needs whole, with Arrow, then filters them."""

    def __init__(self, data: Snapshot, after: Snapshot) -> None:
        self.data, self.after = data, after

    def life(self, doc_id: str) -> int:
        folders = self.data.folders
        about = read_docs(folders["download"], ["id", "title", "source", "locator", "url", "licence"])
        n = about.filter(pc.equal(about["id"], doc_id)).num_rows
        del about
        for path in ("dedupe/ledger", "filter/ledger", "filter/scores", "shard/docs"):
            stage, _, name = path.partition("/")
            table = read_table(folders[stage] / f"{name}.parquet")
            n += table.filter(pc.equal(table["id"], doc_id)).num_rows
        return n

    def find(self, column: str, words: str) -> int:
        table = read_docs(self.data.collected, ["id", column])
        return table.filter(pc.match_substring(table[column], words)).num_rows

    def texts(self, words: str) -> int:
        found = 0
        for path in shard_paths(self.data.collected):  # a corpus of texts fits nowhere at once
            table = read_table(path, ["id", "text"])
            found += table.filter(pc.match_substring(table["text"], words)).num_rows
        return found

    def apart(self) -> int:
        a, b = (read_docs(side.final, ["id"])["id"] for side in (self.data, self.after))
        return len(a.filter(pc.invert(pc.is_in(a, b)))) + len(b.filter(pc.invert(pc.is_in(b, a))))

    def replay(self, words: float) -> int:
        scores = read_table(self.data.folders["filter"] / "scores.parquet")
        return int(pc.sum(pc.less(scores["words"], words)).as_py())


def run() -> Result:
    """Prints every command; the result is the life of a document by id, answers an hour."""
    n_docs = int(os.environ.get("MINIGPT_LEDGER_DOCS", "200000"))
    with tempfile.TemporaryDirectory(prefix="minigpt-ledger-") as folder:
        started = time.perf_counter()
        maker = multiprocessing.get_context("spawn").Process(target=make, args=(Path(folder), n_docs))
        maker.start()  # so that its memory is not ours
        maker.join()
        assert maker.exitcode == 0
        folders = {stage: Path(folder) / stage for stage in STAGES}
        before = Snapshot("before", folders)
        after = Snapshot("after", folders | {"filter": Path(folder) / "filter_after"})
        n_bytes = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
        print(
            f"made {n_docs:,} documents, {n_bytes / 1e9:.2f} GB, in {time.perf_counter() - started:.0f} s", flush=True
        )
        return _measure(before, after, n_docs)


def _measure(before: Snapshot, after: Snapshot, n_docs: int) -> Result:
    row = (
        read_table(shard_paths(before.final)[n_docs // DOCS_A_FILE // 2], ["id", "url", "title", "text"])
        .slice(7, 1)
        .to_pylist()[0]
    )
    registry, plain = Registry(before.final, Cache(before.final)), Plain(before, after)

    def ask(query: str) -> Callable[[], object]:
        return lambda: why(before, query, [], registry, Path("none"))

    def take(kind: str, value: str) -> Callable[[], object]:
        stones = [tombstone(kind, value, "asked")]
        return lambda: takedown.plan(before, stones, registry, with_duplicates=False)

    questions: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("why ID", ask(row["id"]), lambda: plain.life(row["id"])),
        ("why TITLE", ask(row["title"]), lambda: plain.find("title", row["title"])),
        ("why URL", ask(row["url"]), lambda: plain.find("url", row["url"])),
        ("why TEXT", ask(row["text"][20:90]), lambda: plain.texts(row["text"][20:90])),
        ("takedown ID", take("id", row["id"]), lambda: plain.life(row["id"])),
        ("takedown --url", take("url", row["url"]), lambda: plain.find("url", row["url"])),
        ("takedown --domain", take("domain", "site77.example.org"), lambda: plain.find("url", "site77.example.org")),
        ("takedown --licence", take("licence", "CC-BY-NC-4.0"), lambda: plain.find("licence", "CC-BY-NC-4.0")),
        ("diff A B", lambda: diff(before, after), plain.apart),
        ("replay", lambda: replay(before.final, [f"{PARAM}=51"]), lambda: plain.replay(51.0)),
    ]
    table = Table("question", "ours, s", "CPU s", "most memory so far, GB", "plain, s", "ratio")
    ours = [(*_timed(mine), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6) for _, mine, _ in questions]
    theirs = [_timed(other)[0] for _, _, other in questions]
    for (name, _, _), (wall, cpu, memory), other in zip(questions, ours, theirs, strict=True):
        table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}", f"{memory:.2f}", f"{other:.2f}", f"{other / wall:.1f}")
    console().print(table)
    work = f"the life of a document of {n_docs:,} by id"
    return Result(work, "answers/hour", 3600 / ours[0][0], 3600 / theirs[0], "Arrow, whole columns, then a filter")


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall clock and of CPU over all threads: the better of two rounds, the first of which may wait for the disk."""
    rounds: list[tuple[float, float]] = []
    for _ in range(2):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        rounds.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(rounds)

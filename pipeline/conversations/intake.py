"""Take the conversations of sources into the training set and the held-out set: weights, order, rejects, counts.

In: `SourceChat`s one after the other, and the examples that are made by program or written by hand. Out: train.parquet, in which
the copies of the former are spread evenly among the latter; rows of heldout.parquet; rejects.parquet with every row that is left
out. Memory: the examples, a sorted run of `RUN_BYTES`; the conversations of sources are sorted on disk. Time: O(n log n).
"""

from __future__ import annotations

import heapq
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from model.tokenizer.chat import messages_to_json
from pipeline.conversations.chats import SourceChat, make_printable, show_detail
from pipeline.conversations.mixture import join_licenses
from pipeline.conversations.params import ChatSource
from pipeline.frame.metrics import Metrics
from pipeline.skills.skill import Example
from pipeline.storage.sort import RunWriter, list_runs, merge_runs
from pipeline.storage.tables import CONVERSATIONS, HELDOUT, REJECTS, TableWriter

KIND = "chat"
BATCH_ROWS = 1_000
TWO_64 = 1 << 64
ORDERED = pa.schema([("order", pa.uint64()), *(field for field in CONVERSATIONS if field.name != "id")])
Row = dict[str, Any]


class Intake:
    """Receives the conversations of sources, and writes what becomes of each."""

    def __init__(self, out: Path, heldout: TableWriter, n_heldout: int, seed: int) -> None:
        self._rejects, self._heldout = out / "rejects.parquet", heldout
        self._folder = out / "runs"  # removed when its rows are in their order
        self._seed, self._n_heldout_before = seed, n_heldout
        self.n_tokens = 0  # of the rows for training
        self.rejected: Counter[str] = Counter()
        self.first: dict[str, str] = {}  # where the first row of each reason is, and why
        self.counts: Counter[str] = Counter()

    def take_all(self, chats: Iterable[SourceChat], sources: Sequence[ChatSource]) -> None:
        """Write all conversations that are read."""
        by_name = {source.name: source for source in sources}
        rest = iter(chats)
        self._folder.mkdir()
        runs = RunWriter(self._folder, "chats", ORDERED, ["order"])
        with TableWriter(self._rejects, REJECTS) as rejects:
            while batch := list(islice(rest, BATCH_ROWS)):
                self._take_batch(batch, by_name, runs, rejects)
        runs.flush()
        if sources:
            self._report()

    def _take_batch(
        self, batch: Sequence[SourceChat], sources: dict[str, ChatSource], runs: RunWriter, rejected: TableWriter
    ) -> None:
        train: list[Row] = []
        heldout: list[Row] = []
        rejects: list[Row] = []
        for chat in batch:
            self.counts["n_chats_read"] += 1
            self.counts["n_chat_end_marks"] += chat.has_end_mark
            source = sources[chat.source]
            if chat.error:
                rejects.append(self._reject(chat))
            elif hash_fraction(f"{self._seed} heldout", chat.key) < source.heldout_frac:
                number = self._n_heldout_before + self.counts["n_chats_heldout"]
                heldout.append({"id": f"heldout-{number:05d}", **make_row(chat), "expected": "{}"})
                self.counts["n_chats_heldout"] += 1
            else:
                train += self._copy(chat, source)
        for writer, rows, schema in (
            (runs, train, ORDERED),
            (self._heldout, heldout, HELDOUT),
            (rejected, rejects, REJECTS),
        ):
            if rows:
                writer.write(pa.Table.from_pylist(rows, schema=schema))

    def _reject(self, chat: SourceChat) -> Row:
        assert chat.error is not None
        reason, detail = chat.error.reason, show_detail(chat.error)
        self.rejected[reason] += 1
        self.first.setdefault(reason, f"{make_printable(chat.locator)}: {detail}")
        return {"source": chat.source, "locator": chat.locator, "reason": reason, "detail": detail}

    def _copy(self, chat: SourceChat, source: ChatSource) -> Iterator[Row]:
        """Yield a row per copy: as many as the weight, of which a fraction is drawn by the conversation's hash."""
        n_copies = int(source.weight) + (hash_fraction(f"{self._seed} weight", chat.key) < source.weight % 1)
        self.counts["n_chats_kept"] += 1
        self.counts["n_chat_rows"] += n_copies
        self.counts[f"n_rows_{chat.source}"] += n_copies
        self.counts[f"n_tokens_{chat.source}"] += n_copies * chat.n_tokens
        self.n_tokens += n_copies * chat.n_tokens
        row = make_row(chat)
        for copy in range(n_copies):
            order = xxhash.xxh3_64_intdigest(f"{self._seed} {chat.source}/{chat.locator} {copy}".encode())
            yield {"order": order, **row}

    def iterate_rows(self) -> Iterator[tuple[float, Row]]:
        """Yield the rows for training in their order, with a number from 0 to 1 that is spread evenly."""
        for table in merge_runs(list_runs([self._folder], "chats"), ["order"]):
            for row in table.to_pylist():
                yield row.pop("order") / TWO_64, row
        shutil.rmtree(self._folder, ignore_errors=True)

    def _report(self) -> None:
        """Print how many conversations were read and why some were left out."""
        n, kept, held = (self.counts[f"n_chats_{name}"] for name in ("read", "kept", "heldout"))
        print(
            f"conversations: {n:,} of sources, {kept:,} to train on, {held:,} held out, {self.rejected.total():,} rejected"
        )
        for reason, count in self.rejected.most_common():
            print(f"conversations:   {count:,} {reason}, first {self.first[reason]}")

    def make_metrics(self) -> Metrics:
        """Return the counts: read = kept + held out + rejected."""
        return {**self.counts, **{f"n_rejected_{reason}": n for reason, n in sorted(self.rejected.items())}}


def hash_fraction(salt: str, key: bytes) -> float:
    """Return a number from 0 to 1 (exclusive) that is the same for the same conversation."""
    return (xxhash.xxh3_64_intdigest(salt.encode() + key) >> 11) / (TWO_64 >> 11)


def make_row(chat: SourceChat) -> Row:
    """Return the columns of a conversation of a source but its id."""
    return {
        "kind": KIND,
        "messages": json.dumps(messages_to_json(chat.messages), ensure_ascii=False),
        "source": chat.source,
        "locator": chat.locator,
        "license": chat.license,
    }


def make_example_row(example: Example) -> Row:
    """Return the columns of an example but its id."""
    return {
        "kind": example.kind,
        "messages": json.dumps(messages_to_json(example.messages), ensure_ascii=False),
        "source": example.source,
        "locator": example.locator,
        "license": join_licenses(example.licenses),
    }


def write_train(path: Path, examples: Sequence[Example], intake: Intake) -> int:
    """Write train.parquet and return its number of rows: the examples in their order, and evenly among them those of sources."""
    made = (((number + 0.5) / len(examples), make_example_row(example)) for number, example in enumerate(examples))
    merged = heapq.merge(made, intake.iterate_rows(), key=lambda placed: placed[0])
    n_rows = 0
    with TableWriter(path, CONVERSATIONS) as table:
        while rows := [row for _, row in islice(merged, BATCH_ROWS)]:
            numbered = [{"id": f"train-{number:06d}", **row} for number, row in enumerate(rows, n_rows)]
            table.write(pa.Table.from_pylist(numbered, schema=CONVERSATIONS))
            n_rows += len(rows)
    return n_rows


def write_heldout(table: TableWriter, examples: Sequence[Example]) -> None:
    """Write held-out examples, with what a scorer compares a reply with."""
    rows = [
        {
            "id": f"heldout-{number:05d}",
            **make_example_row(example),
            "expected": json.dumps(example.expected, ensure_ascii=False),
        }
        for number, example in enumerate(examples)
    ]
    table.write(pa.Table.from_pylist(rows, schema=HELDOUT))

"""Token shards and conversations → batches, each a pure function of the step.

In: Arrow IPC files of token ids with a manifest.json, or conversations as (ids, mask). Out: `at(step)` → Batch. Because nothing
is carried from step to step, resuming needs the step's number alone, and rank r of W takes its slice of the same global
batch whatever W is. Memory: the files are mapped, never read whole; a permutation of the rows is kept for one epoch (8 bytes a
row). Time: a window of 2,049 tokens in a few microseconds; packing is O(n log n).

Where `documents` is given it numbers the pieces of a row, and attention stops at their borders. Conversations have it: none
sees its neighbour when it is served, and on the CPU kernels the mask costs nothing (272 ms a step without, 265 with; 5 to 30 % in
plain torch). Streams have it on demand.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int
from torch import Tensor

from model.loss import IGNORE

DTYPES = {"uint16": pa.uint16(), "uint32": pa.uint32()}


class Batch(NamedTuple):
    ids: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    documents: Int[Tensor, "B T"] | None = None
    rows: tuple[int, ...] = ()  # which rows of the data these are, to name them when something goes wrong


class Batches(Protocol):
    """What the training loop needs of its data."""

    n_rows: int  # in one epoch
    batch_rows: int  # in one global batch

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch: ...


class TokenStream:
    """One split of a shard folder as if it were one long array; the files stay on disk.

    Raises: ValueError for a file that is missing, or whose size or dtype is not the manifest's, or (on demand) its sha256.
    """

    def __init__(self, folder: Path, split: str, *, verify_sha256: bool = False) -> None:
        path = folder / "manifest.json"
        if not path.is_file():
            raise ValueError(f"there are no token shards; not found: {path}; run the shard stage, or name its folder.")
        self.manifest = json.loads(path.read_text(encoding="utf-8"))
        if split not in self.manifest:
            raise ValueError(f"{path} has no split {split!r}; found {', '.join(self.manifest)}; use train or val.")
        self.name = f"{folder.name}/{split}"
        self._chunks: list[np.ndarray] = []
        for entry in self.manifest[split]["files"]:
            self._chunks += _open_tokens(folder / entry["name"], entry, self.manifest["dtype"], verify_sha256)
        self._starts = np.cumsum([0, *(len(chunk) for chunk in self._chunks)])
        if len(self) != self.manifest[split]["n_tokens"]:
            raise ValueError(
                f"{path} does not describe its files; found {len(self)} tokens where {split}.n_tokens says "
                f"{self.manifest[split]['n_tokens']}; run the shard stage again."
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> Int[np.ndarray, " N"]:
        """Tokens start … stop as int64."""
        assert 0 <= start <= stop <= len(self)
        out = np.empty(stop - start, dtype=np.int64)
        index = int(np.searchsorted(self._starts, start, side="right")) - 1
        position = start
        while position < stop:
            begin = position - int(self._starts[index])
            piece = self._chunks[index][begin : begin + stop - position]
            out[position - start : position - start + len(piece)] = piece
            position += len(piece)
            index += 1
        return out


def _open_tokens(path: Path, entry: dict[str, Any], dtype: str, verify_sha256: bool) -> list[np.ndarray]:
    again = "run the shard stage again"
    if not path.is_file():
        raise ValueError(f"a token shard is missing; not found: {path}; {again}.")
    if verify_sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != entry["sha256"]:
            raise ValueError(
                f"a token shard is damaged; found sha256 {found[:12]}… in {path}, not {entry['sha256'][:12]}…; {again}."
            )
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"a token shard can't be read; found {error} in {path}; {again}.") from error
    column = table.column("tokens") if "tokens" in table.column_names else pa.chunked_array([], type=pa.null())
    if column.type != DTYPES.get(dtype) or column.null_count:
        raise ValueError(f"{path} must hold one column tokens of {dtype} without nulls; found {table.schema}; {again}.")
    if len(column) != entry["n_tokens"]:
        raise ValueError(f"{path} must hold {entry['n_tokens']} tokens; found {len(column)}; {again}.")
    return [chunk.to_numpy(zero_copy_only=True) for chunk in column.chunks if len(chunk)]


@lru_cache(maxsize=8)
def permutation(n: int, seed: int, epoch: int) -> Int[np.ndarray, " N"]:
    return np.random.Generator(np.random.PCG64([seed, epoch])).permutation(n)


def rows_of_step(step: int, n_rows: int, batch_rows: int, seed: int) -> list[tuple[int, int]]:
    """(epoch, row) of each row of a global batch: every row once per epoch, in an order of its own; a batch may span two."""
    first = step * batch_rows
    places = [divmod(first + index, n_rows) for index in range(batch_rows)]
    return [(epoch, int(permutation(n_rows, seed, epoch)[place])) for epoch, place in places]


def rank_slice(batch_rows: int, rank: int, n_ranks: int) -> slice:
    if batch_rows % n_ranks:
        raise ValueError(
            f"batch_rows must be a multiple of the number of processes; found {batch_rows} and {n_ranks}; change one."
        )
    share = batch_rows // n_ranks
    return slice(rank * share, (rank + 1) * share)


class StreamBatches:
    """Rows of seq_len + 1 tokens, cut side by side from the stream as if it were a ring. Each epoch starts cutting somewhere
    else, so that what stood at a row's edge, or was left over (less than a row), is in the middle of one the next time."""

    def __init__(
        self, stream: TokenStream, *, seq_len: int, batch_rows: int, seed: int, mask_documents: bool = False
    ) -> None:
        self.stream, self.seq_len, self.batch_rows, self.seed = stream, seq_len, batch_rows, seed
        self.mask_documents = mask_documents
        self.n_rows = (len(stream) - 1) // seq_len
        if self.n_rows < 1:
            raise ValueError(
                f"{stream.name} is too small for one row; found {len(stream)} tokens where seq_len + 1 = {seq_len + 1} are needed; "
                "add text or lower seq_len."
            )

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        places = rows_of_step(step, self.n_rows, self.batch_rows, self.seed)[rank_slice(self.batch_rows, rank, n_ranks)]
        rows = np.stack([self._row(epoch, row) for epoch, row in places])
        tokens = torch.from_numpy(rows)
        ids = tokens[:, :-1]
        documents = (ids == self.stream.manifest["bos_id"]).cumsum(1) if self.mask_documents else None
        return Batch(ids, tokens[:, 1:], documents, tuple(row for _, row in places))

    def spans(self, step: int) -> list[tuple[int, int]]:
        """From where to where in the stream the rows of a global batch are; one that goes around the end is two."""
        length, spans = len(self.stream), list[tuple[int, int]]()
        for epoch, row in rows_of_step(step, self.n_rows, self.batch_rows, self.seed):
            start = self._start(epoch, row)
            stop = start + self.seq_len + 1
            spans += [(start, stop)] if stop <= length else [(start, length), (0, stop - length)]
        return spans

    def _start(self, epoch: int, row: int) -> int:
        return (row * self.seq_len + epoch * self.seq_len // 3 * 2) % len(self.stream)

    def _row(self, epoch: int, row: int) -> np.ndarray:
        length, start = len(self.stream), self._start(epoch, row)
        stop = start + self.seq_len + 1
        if stop <= length:
            return self.stream.read(start, stop)
        return np.concatenate((self.stream.read(start, length), self.stream.read(0, stop - length)))


class Conversation(NamedTuple):
    ids: Sequence[int] | np.ndarray
    mask: Sequence[bool] | np.ndarray


@dataclass(frozen=True)
class Packing:
    """`rows[r]` lists the conversations of row r; `cut` those that were longer than a row; `left_out` those without a target."""

    rows: tuple[tuple[int, ...], ...]
    cut: tuple[int, ...]
    left_out: tuple[int, ...]


class ConversationBatches:
    """Whole conversations packed into rows of seq_len, best fit first, padded at the end; targets where the mask says so.

    A conversation longer than a row is cut: its first token stays, then the last that fit, since an answer is at the end. One
    without any target left is left out and counted, so no row is without target (a mean over none would be NaN).
    """

    def __init__(
        self, conversations: Iterable[Conversation], *, seq_len: int, batch_rows: int, seed: int, pad_id: int = 0
    ) -> None:
        self.seq_len, self.batch_rows, self.seed, self.pad_id = seq_len, batch_rows, seed, pad_id
        self._pieces: list[tuple[np.ndarray, np.ndarray]] = []
        cut, left_out, kept = [], [], []
        for number, (ids, mask) in enumerate(conversations):
            ids, mask = np.asarray(ids, dtype=np.int32), np.asarray(mask, dtype=bool)
            assert ids.shape == mask.shape
            if len(ids) > seq_len + 1:  # the last token is a target only
                cut.append(number)
                ids = np.concatenate((ids[:1], ids[-seq_len:]))
                mask = np.concatenate((mask[:1], mask[-seq_len:]))
            self._pieces.append((ids, mask))
            if mask[1:].any():
                kept.append(number)
            else:
                left_out.append(number)
        if not kept:
            raise ValueError("there is no conversation to learn from; found none with an assistant's turn; add some.")
        lengths = [len(self._pieces[number][0]) - 1 for number in kept]
        rows = [tuple(kept[index] for index in row) for row in pack(lengths, seq_len)]
        self.packing = Packing(tuple(rows), tuple(cut), tuple(left_out))
        self.n_rows = len(rows)

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        places = rows_of_step(step, self.n_rows, self.batch_rows, self.seed)[rank_slice(self.batch_rows, rank, n_ranks)]
        shape = (len(places), self.seq_len)
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        documents = np.full(shape, -1, dtype=np.int64)
        for index, (_, row) in enumerate(places):
            start = 0
            for number, piece in enumerate(self.packing.rows[row]):
                tokens, mask = self._pieces[piece]
                part = slice(start, start + len(tokens) - 1)
                ids[index, part] = tokens[:-1]
                targets[index, part] = np.where(mask[1:], tokens[1:], IGNORE)
                documents[index, part] = number
                start = part.stop
        parts = (torch.from_numpy(array) for array in (ids, targets, documents))
        return Batch(*parts, rows=tuple(row for _, row in places))


def pack(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing: each piece, longest first, into the fullest row that still takes it. Equal lengths keep their order."""
    rows: list[list[int]] = []
    spaces: list[tuple[int, int]] = []  # (space left, row), sorted
    for index in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        length = lengths[index]
        assert length <= capacity
        place = bisect_left(spaces, (length, -1))
        if place < len(spaces):
            space, row = spaces.pop(place)
            rows[row].append(index)
        else:
            space, row = capacity, len(rows)
            rows.append([index])
        insort(spaces, (space - length, row))
    return rows

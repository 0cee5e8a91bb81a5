"""Token shards and conversations → batches, each a pure function of the step.

In: Arrow IPC files of token ids with a manifest.json, or conversations as (ids, mask). Out: `at(step)` → Batch. Because nothing
is carried from step to step, resuming needs the step's number alone, and rank r of W takes its slice of the same global
batch whatever W is. Memory: the files are mapped, never read whole; permutations of the rows are kept for two epochs (8 bytes a
row). Time: a window of 2,049 tokens in a few microseconds. Everything is NumPy until the batch is whole: torch's operators would
start threads of their own where a batch is made beside the training (model/data/prefetch.py).

Where `documents` is given it numbers the pieces of a row, and attention stops at their borders. Conversations have it: none
sees its neighbour when it is served, and on the CPU kernels the mask costs nothing (272 ms a step without, 265 with; 5 to 30 % in
plain torch). Streams have it on demand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int
from torch import Tensor

from model.data.order import Order
from model.data.packing import pack
from model.data.verified import VerifiedFiles
from model.network.loss import IGNORE

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


@runtime_checkable
class Tokens(Protocol):
    """One long array of ids, wherever they are."""

    name: str
    bos_id: int

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Int[np.ndarray, " N"]: ...

    def find_spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Where these tokens are in the split's stream."""
        ...


class TokenStream:
    """One split of a shard folder as if it were one long array; the files stay on disk.

    With `verify_sha256` a file is hashed before anything is read from it; `verified` remembers over many starts which ones were.
    Raises: ValueError for a file that is missing, or whose size or dtype is not the manifest's; from `read`, for a wrong sha256.
    """

    def __init__(self, folder: Path, split: str, *, verify_sha256: bool = False, verified: Path | None = None) -> None:
        path = folder / "manifest.json"
        if not path.is_file():
            raise ValueError(f"there are no token shards; not found: {path}; run the shard stage, or name its folder.")
        self.manifest = json.loads(path.read_text(encoding="utf-8"))
        if split not in self.manifest:
            raise ValueError(f"{path} has no split {split!r}; found {', '.join(self.manifest)}; use train or val.")
        self.name = f"{folder.name}/{split}"
        self.bos_id = int(self.manifest["bos_id"])
        self._verified = VerifiedFiles(verified)
        self._unverified: dict[Path, str] = {}
        self._chunks: list[np.ndarray] = []
        self._paths: list[Path] = []  # of each chunk
        for entry in self.manifest[split]["files"]:
            path = folder / entry["name"]
            chunks = _open_tokens(path, entry, self.manifest["dtype"])
            self._chunks += chunks
            self._paths += [path] * len(chunks)
            if verify_sha256:
                self._unverified[path] = entry["sha256"]
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
            if self._unverified:
                self._verify(self._paths[index])
            begin = position - int(self._starts[index])
            piece = self._chunks[index][begin : begin + stop - position]
            out[position - start : position - start + len(piece)] = piece
            position += len(piece)
            index += 1
        return out

    def find_spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        return [(start, stop)]

    def _verify(self, path: Path) -> None:
        if path in self._unverified:
            self._verified.check(path, self._unverified[path])
            del self._unverified[path]


def _open_tokens(path: Path, entry: dict[str, Any], dtype: str) -> list[np.ndarray]:
    again = "run the shard stage again"
    if not path.is_file():
        raise ValueError(f"a token shard is missing; not found: {path}; {again}.")
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


class PackedRow(NamedTuple):
    ids: Int[np.ndarray, " T"]
    targets: Int[np.ndarray, " T"]
    documents: Int[np.ndarray, " T"] | None


@runtime_checkable
class TokenRows(Protocol):
    """Rows of one length; what a row holds may differ from epoch to epoch."""

    n_rows: int

    def row(self, epoch: int, row: int) -> PackedRow: ...

    def find_spans(self, epoch: int, row: int) -> list[tuple[int, int]]:
        """From where to where in the split's stream the row's tokens are."""
        ...


class StreamRows:
    """Rows of seq_len + 1 tokens, cut side by side from the stream as if it were a ring. Each epoch starts cutting somewhere
    else, so that what stood at a row's edge, or was left over (less than a row), is in the middle of one the next time."""

    def __init__(self, stream: Tokens, seq_len: int, *, mask_documents: bool = False) -> None:
        self.stream, self.seq_len, self.mask_documents = stream, seq_len, mask_documents
        self.n_rows = (len(stream) - 1) // seq_len
        if self.n_rows < 1:
            raise ValueError(
                f"{stream.name} is too small for one row; found {len(stream)} tokens where seq_len + 1 = {seq_len + 1} are needed; "
                "add text or lower seq_len."
            )

    def row(self, epoch: int, row: int) -> PackedRow:
        tokens = np.concatenate([self.stream.read(*part) for part in self._parts(epoch, row)])
        documents = (tokens[:-1] == self.stream.bos_id).cumsum() if self.mask_documents else None
        return PackedRow(tokens[:-1], tokens[1:], documents)

    def find_spans(self, epoch: int, row: int) -> list[tuple[int, int]]:
        return [span for part in self._parts(epoch, row) for span in self.stream.find_spans(*part)]

    def _parts(self, epoch: int, row: int) -> list[tuple[int, int]]:
        """Of the ring; a row that goes around the end is two."""
        length = len(self.stream)
        start = (row * self.seq_len + epoch * self.seq_len // 3 * 2) % length
        stop = start + self.seq_len + 1
        return [(start, stop)] if stop <= length else [(start, length), (0, stop - length)]


class RowBatches:
    """Batches of rows of one or more sources; `cycle` (see Order) says from which source the next row is."""

    def __init__(
        self, sources: Sequence[TokenRows], *, batch_rows: int, seed: int, cycle: Sequence[int] = (0,)
    ) -> None:
        self.sources, self.batch_rows = sources, batch_rows
        sizes = [rows.n_rows for rows in sources]
        self.order, self.n_rows = Order(sizes, seed, cycle), sum(sizes)
        self._first = np.cumsum([0, *sizes])  # number of each source's first row

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        places = self.order.list_step_rows(step, self.batch_rows, rank, n_ranks)
        rows = [self.sources[place.source].row(place.epoch, place.row) for place in places]
        ids, targets = np.stack([row.ids for row in rows]), np.stack([row.targets for row in rows])
        pieces = [row.documents for row in rows if row.documents is not None]
        documents = torch.from_numpy(np.stack(pieces)) if pieces else None
        numbers = tuple(int(self._first[place.source]) + place.row for place in places)
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), documents, numbers)

    def find_spans(self, step: int) -> list[tuple[int, int]]:
        """From where to where in the stream the rows of a global batch are, row by row."""
        places = self.order.list_step_rows(step, self.batch_rows)
        return [span for source, epoch, row in places for span in self.sources[source].find_spans(epoch, row)]


class StreamBatches(RowBatches):
    """Rows of one stream."""

    def __init__(
        self, stream: Tokens, *, seq_len: int, batch_rows: int, seed: int, mask_documents: bool = False
    ) -> None:
        self.stream = stream
        rows = StreamRows(stream, seq_len, mask_documents=mask_documents)
        super().__init__([rows], batch_rows=batch_rows, seed=seed)


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
        self.seq_len, self.batch_rows, self.pad_id = seq_len, batch_rows, pad_id
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
        self._order = Order([self.n_rows], seed)

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        rows = [place.row for place in self._order.list_step_rows(step, self.batch_rows, rank, n_ranks)]
        shape = (len(rows), self.seq_len)
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        targets = np.full(shape, IGNORE, dtype=np.int64)
        documents = np.full(shape, -1, dtype=np.int64)
        for index, row in enumerate(rows):
            start = 0
            for number, piece in enumerate(self.packing.rows[row]):
                tokens, mask = self._pieces[piece]
                part = slice(start, start + len(tokens) - 1)
                ids[index, part] = tokens[:-1]
                targets[index, part] = np.where(mask[1:], tokens[1:], IGNORE)
                documents[index, part] = number
                start = part.stop
        parts = (torch.from_numpy(array) for array in (ids, targets, documents))
        return Batch(*parts, rows=tuple(rows))

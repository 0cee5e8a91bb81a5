"""Build batches from token shards and conversations, each batch a pure function of the step.

In: Arrow IPC files of token ids with a manifest.json, or conversations as (ids, mask). Out: `at(step)` → Batch. Because no state is
carried from step to step, resuming needs only the step's number, and rank r of W takes its slice of the same global batch for any
W. Memory: the files are memory-mapped, never read completely; permutations of the rows are kept for two epochs (8 bytes per row).
Time: a window of 2,049 tokens in a few microseconds. Everything is NumPy until the batch is complete: torch's operators would
start threads of their own in the thread that builds batches during training (model/data/prefetch.py).

`documents`, if there, numbers the pieces of a row, and attention does not cross their boundaries. Conversations have it, because
a served conversation never sees another one, and on the CPU kernels the mask costs nothing (272 ms per step without, 265 with; 5
to 30 % in plain torch). For streams it is optional.
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
from jaxtyping import Float, Int
from torch import Tensor

from model.data.order import EpochRow, Order, make_fair_cycle
from model.data.packing import pack
from model.data.verified import VerifiedFiles
from model.network.loss import IGNORE
from model.network.soft_targets import SoftTargets

DTYPES = {"uint16": pa.uint16(), "uint32": pa.uint32()}


class Objective(Protocol):
    """A loss that depends on the nats of all targets of a unit together, such as a pair of answers or a group of samples."""

    def count_units(self, batch: Batch) -> int:
        """Return the number of units in a batch; the loss is the mean over those of the global batch."""
        ...

    def weigh(self, batch: Batch, nats: Float[Tensor, "B T"]) -> tuple[float, Float[Tensor, "B T"]]:
        """Return the sum of the units' losses, and its derivative by the nats of each target, on the CPU."""
        ...

    def pop_sums(self) -> dict[str, float]:
        """Return what is logged beside the loss, summed over the units weighed since the last call, always with the same names."""
        ...


class Batch(NamedTuple):
    """Inputs and targets of one step.

    `weights` multiply the nats of each target: the loss is Σ weight × nats / number of targets, whatever the weights add up to.
    They may be negative, so that the gradient of any function of sequences' log-probabilities is one weighted backward pass. An
    `objective` computes them from the nats of that very pass, and is what the loss is then: a mean over its units.
    """

    ids: Int[Tensor, "B T"]
    targets: Int[Tensor, "B T"]
    documents: Int[Tensor, "B T"] | None = None
    rows: tuple[int, ...] = ()  # the row numbers in the data, for error reports
    weights: Float[Tensor, "B T"] | None = None  # None: 1 for every target
    objective: Objective | None = None
    soft: SoftTargets | None = (
        None  # mixes the nats of each target with the divergence from a teacher; not with an objective
    )


class Batches(Protocol):
    """The training loop's data source."""

    n_rows: int  # in one epoch
    batch_rows: int  # in one global batch

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch: ...


@runtime_checkable
class Tokens(Protocol):
    """One long array of ids, wherever it is stored."""

    name: str
    bos_id: int

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Int[np.ndarray, " N"]: ...

    def find_spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the (start, stop) positions of these tokens in the split's stream."""
        ...


class TokenStream:
    """One split of a shard folder as one long array; the files stay on disk.

    With `verify_sha256` a file is hashed before it is first read; the file `verified` remembers that across restarts.
    Raises: ValueError for a missing file, or one whose size or dtype differs from the manifest; in `read`, for a wrong sha256.
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
                f"{path} does not match its files; found {len(self)} tokens, but {split}.n_tokens is "
                f"{self.manifest[split]['n_tokens']}; run the shard stage again."
            )

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> Int[np.ndarray, " N"]:
        """Return the tokens start … stop as int64."""
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
        """Return the (start, stop) positions of these tokens in the stream: themselves."""
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
    """Inputs, targets and document numbers of one row."""

    ids: Int[np.ndarray, " T"]
    targets: Int[np.ndarray, " T"]
    documents: Int[np.ndarray, " T"] | None


@runtime_checkable
class TokenRows(Protocol):
    """Rows of one length. The content of a row may differ from epoch to epoch."""

    n_rows: int

    def row(self, epoch: int, row: int) -> PackedRow: ...

    def find_spans(self, epoch: int, row: int) -> list[tuple[int, int]]:
        """Return the (start, stop) positions of the row's tokens in the split's stream."""
        ...


class StreamRows:
    """Rows of seq_len + 1 tokens, cut consecutively from the stream as a ring. Each epoch starts elsewhere, so that tokens
    at a row's edge, or in the remainder of less than a row, are inside a row in the next epoch."""

    def __init__(self, stream: Tokens, seq_len: int, *, mask_documents: bool = False) -> None:
        self.stream, self.seq_len, self.mask_documents = stream, seq_len, mask_documents
        self.n_rows = (len(stream) - 1) // seq_len
        if self.n_rows < 1:
            raise ValueError(
                f"{stream.name} is too small for one row; found {len(stream)} tokens, needs seq_len + 1 = {seq_len + 1}; "
                "add text or lower seq_len."
            )

    def row(self, epoch: int, row: int) -> PackedRow:
        """Return a row of an epoch."""
        tokens = np.concatenate([self.stream.read(*part) for part in self._find_parts(epoch, row)])
        documents = (tokens[:-1] == self.stream.bos_id).cumsum() if self.mask_documents else None
        return PackedRow(tokens[:-1], tokens[1:], documents)

    def find_spans(self, epoch: int, row: int) -> list[tuple[int, int]]:
        """Return the (start, stop) positions of the row's tokens in the split's stream."""
        return [span for part in self._find_parts(epoch, row) for span in self.stream.find_spans(*part)]

    def _find_parts(self, epoch: int, row: int) -> list[tuple[int, int]]:
        """Return the row's ranges in the ring: two if it wraps around the end."""
        length = len(self.stream)
        start = (row * self.seq_len + epoch * self.seq_len // 3 * 2) % length
        stop = start + self.seq_len + 1
        return [(start, stop)] if stop <= length else [(start, length), (0, stop - length)]


class RowBatches:
    """Batches of rows from one or more sources, in the proportions of `cycle` (see Order)."""

    def __init__(
        self, sources: Sequence[TokenRows], *, batch_rows: int, seed: int, cycle: Sequence[int] = (0,)
    ) -> None:
        self.sources, self.batch_rows = sources, batch_rows
        sizes = [rows.n_rows for rows in sources]
        self.order, self.n_rows = Order(sizes, seed, cycle), sum(sizes)
        self._first = np.cumsum([0, *sizes])  # number of each source's first row

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return a rank's share of the global batch of a step."""
        return self._read(self.order.list_step_rows(step, self.batch_rows, rank, n_ranks))

    def read_rows(self, start: int, stop: int) -> Batch:
        """Return the rows start … stop of the run."""
        return self._read([self.order.at(number) for number in range(start, stop)])

    def _read(self, drawn: Sequence[EpochRow]) -> Batch:
        rows = [self.sources[each.source].row(each.epoch, each.row) for each in drawn]
        ids, targets = np.stack([row.ids for row in rows]), np.stack([row.targets for row in rows])
        pieces = [row.documents for row in rows if row.documents is not None]
        documents = torch.from_numpy(np.stack(pieces)) if pieces else None
        numbers = tuple(int(self._first[each.source]) + each.row for each in drawn)
        return Batch(torch.from_numpy(ids), torch.from_numpy(targets), documents, numbers)

    def find_spans(self, step: int) -> list[tuple[int, int]]:
        """Return the (start, stop) positions of a global batch in the stream, row by row."""
        return self.find_row_spans(step * self.batch_rows, (step + 1) * self.batch_rows)

    def find_row_spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the (start, stop) positions of the rows start … stop of the run in the stream."""
        drawn = [self.order.at(number) for number in range(start, stop)]
        return [span for source, epoch, row in drawn for span in self.sources[source].find_spans(epoch, row)]


class StreamBatches(RowBatches):
    """Batches of rows of one stream."""

    def __init__(
        self, stream: Tokens, *, seq_len: int, batch_rows: int, seed: int, mask_documents: bool = False
    ) -> None:
        self.stream = stream
        rows = StreamRows(stream, seq_len, mask_documents=mask_documents)
        super().__init__([rows], batch_rows=batch_rows, seed=seed)


class Conversation(NamedTuple):
    """One encoded conversation; `mask` is true on targets."""

    ids: Sequence[int] | np.ndarray
    mask: Sequence[bool] | np.ndarray


@dataclass(frozen=True)
class Packing:
    """How conversations are packed: `rows[r]` lists those of row r, `cut` those longer than a row, `left_out` those without a
    target."""

    rows: tuple[tuple[int, ...], ...]
    cut: tuple[int, ...]
    left_out: tuple[int, ...]


class ConversationRows:
    """Whole conversations packed into rows of seq_len by best fit and padded at the end; targets where the mask is true.

    A conversation longer than a row is cut: its first token stays and as many of the last as fit, because the answer is at the
    end. One without targets is left out and counted, so every row has a target (a mean over none would be NaN).
    """

    def __init__(self, conversations: Iterable[Conversation], *, seq_len: int, pad_id: int = 0) -> None:
        self.seq_len, self.pad_id = seq_len, pad_id
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
            raise ValueError("there is no conversation to train on; found none with an assistant turn; add some.")
        lengths = [len(self._pieces[number][0]) - 1 for number in kept]
        rows = [tuple(kept[index] for index in row) for row in pack(lengths, seq_len)]
        self.packing = Packing(tuple(rows), tuple(cut), tuple(left_out))
        self.n_rows = len(rows)

    def row(self, epoch: int, row: int) -> PackedRow:
        """Return a row, the same in every epoch."""
        ids = np.full(self.seq_len, self.pad_id, dtype=np.int64)
        targets = np.full(self.seq_len, IGNORE, dtype=np.int64)
        documents = np.full(self.seq_len, -1, dtype=np.int64)
        start = 0
        for number, piece in enumerate(self.packing.rows[row]):
            tokens, mask = self._pieces[piece]
            part = slice(start, start + len(tokens) - 1)
            ids[part] = tokens[:-1]
            targets[part] = np.where(mask[1:], tokens[1:], IGNORE)
            documents[part] = number
            start = part.stop
        return PackedRow(ids, targets, documents)

    def find_spans(self, epoch: int, row: int) -> list[tuple[int, int]]:
        """Return nothing: conversations are in no stream."""
        return []


class ConversationBatches(RowBatches):
    """Batches of rows of conversations. A share `replay_frac` of the rows, evenly spread, are rows of `replay` instead, whose
    targets have the weight `replay_weight`."""

    def __init__(
        self,
        conversations: Iterable[Conversation],
        *,
        seq_len: int,
        batch_rows: int,
        seed: int,
        pad_id: int = 0,
        replay: TokenRows | None = None,
        replay_frac: float = 0.0,
        replay_weight: float = 1.0,
    ) -> None:
        rows = ConversationRows(conversations, seq_len=seq_len, pad_id=pad_id)
        self.packing, self.replay_weight = rows.packing, 1.0
        if replay is None:
            super().__init__([rows], batch_rows=batch_rows, seed=seed)
        else:
            cycle = make_fair_cycle([1 - replay_frac, replay_frac])
            super().__init__([rows, replay], batch_rows=batch_rows, seed=seed, cycle=cycle)
            self.n_rows = round(rows.n_rows / (1 - replay_frac))  # of the run until every conversation has occurred
            self.replay_weight = replay_weight

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """Return a rank's share of the global batch of a step."""
        batch = super().at(step, rank=rank, n_ranks=n_ranks)
        if self.replay_weight == 1:
            return batch
        is_replayed = np.array(batch.rows)[:, None] >= len(self.packing.rows)
        weights = np.where(is_replayed, np.float32(self.replay_weight), np.float32(1))
        return batch._replace(weights=torch.from_numpy(np.broadcast_to(weights, batch.ids.shape).copy()))

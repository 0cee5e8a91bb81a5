"""Documents of a split as something to train on: those of one source as one stream, or whole ones packed into rows.

In: a stream of tokens and where in it documents begin and how long they are. Out: Tokens and Rows for model.data.batches. Memory: 16
bytes a document for a selection, 33 a piece for packed rows; tokens stay on disk. Time: a read is 2 µs a document.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from model.data.batches import PackedRow, Tokens
from model.data.packing import pack_documents
from model.network.loss import IGNORE


class Selection:
    """Some documents of a stream, one behind the other as if there were no others."""

    def __init__(
        self, stream: Tokens, starts: Int[np.ndarray, " N"], lengths: Int[np.ndarray, " N"], *, name: str
    ) -> None:
        self.name, self.bos_id = name, stream.bos_id
        self._stream, self._starts = stream, starts
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, stop: int) -> Int[np.ndarray, " N"]:
        """Tokens start … stop as int64."""
        parts = [self._stream.read(*span) for span in self.find_spans(start, stop)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def find_spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        assert 0 <= start <= stop <= len(self)
        spans, position = list[tuple[int, int]](), start
        document = int(np.searchsorted(self._ends, start, side="right"))
        while position < stop:
            end = min(int(self._ends[document]), stop)
            begin = int(self._starts[document]) + position - (int(self._ends[document - 1]) if document else 0)
            spans.append((begin, begin + end - position))
            position, document = end, document + 1
        return spans


class PackedRows:
    """Whole documents in rows of seq_len, best fit first, what is left of a row padded; only those longer than a row are cut.

    Each token of the documents is an input once an epoch and a target once: the target of a document's last token is the
    <|bos|> that ends it, of a piece's last token the one that goes on. The rows are the same in every epoch, only their order
    is another: where the long ones are cut does not move.
    """

    def __init__(
        self,
        stream: Tokens,
        starts: Int[np.ndarray, " N"],
        lengths: Int[np.ndarray, " N"],
        seq_len: int,
        *,
        pad_id: int = 0,
        mask_documents: bool = False,
    ) -> None:
        self.stream, self.seq_len, self.pad_id, self.mask_documents = stream, seq_len, pad_id, mask_documents
        self.n_tokens = int(lengths.sum())
        if not self.n_tokens:
            raise ValueError(
                f"{stream.name} has nothing to pack; found {len(lengths)} documents without tokens; add text."
            )
        self._pieces = pack_documents(starts, lengths, seq_len)
        self.n_rows = self._pieces.n_rows

    def row(self, epoch: int, row: int) -> PackedRow:
        """The same in every epoch."""
        ids = np.full(self.seq_len, self.pad_id, dtype=np.int64)
        targets = np.full(self.seq_len, IGNORE, dtype=np.int64)
        documents = np.full(self.seq_len, -1, dtype=np.int64) if self.mask_documents else None
        place, pieces = 0, self._pieces
        for number, piece in enumerate(range(pieces.first[row], pieces.first[row + 1])):
            start, length, is_end = int(pieces.starts[piece]), int(pieces.lengths[piece]), bool(pieces.is_end[piece])
            tokens = self.stream.read(start, start + length + (not is_end))
            part = slice(place, place + length)
            ids[part] = tokens[:length]
            targets[part] = np.append(tokens[1:length], self.stream.bos_id if is_end else tokens[length])
            if documents is not None:
                documents[part] = number
            place += length
        return PackedRow(ids, targets, documents)

    def find_spans(self, epoch: int, row: int) -> list[tuple[int, int]]:
        part = slice(self._pieces.first[row], self._pieces.first[row + 1])
        starts, lengths = self._pieces.starts[part], self._pieces.lengths[part]
        return list(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))

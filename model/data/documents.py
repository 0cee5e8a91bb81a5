"""Turn documents of a split into training data: those of one source as one stream, or whole documents packed into rows.

In: a stream of tokens with the starts and lengths of its documents. Out: Tokens and TokenRows for model.data.batches. Memory: 16
bytes per document for a selection, 33 per piece for packed rows; tokens stay on disk. Time: a read takes 2 µs per document.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from model.data.batches import PackedRow, Tokens
from model.data.packing import pack_documents
from model.network.loss import IGNORE


class Selection:
    """Some documents of a stream, concatenated."""

    def __init__(
        self, stream: Tokens, starts: Int[np.ndarray, " N"], lengths: Int[np.ndarray, " N"], *, name: str
    ) -> None:
        self.name, self.bos_id = name, stream.bos_id
        self._stream, self._starts = stream, starts
        self._ends = np.cumsum(lengths)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def read(self, start: int, stop: int) -> Int[np.ndarray, " N"]:
        """Return the tokens start … stop as int64."""
        parts = [self._stream.read(*span) for span in self.find_spans(start, stop)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def find_spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the (start, stop) positions of these tokens in the split's stream."""
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
    """Whole documents packed into rows of seq_len by best fit and padded; only documents longer than a row are cut.

    Each token of the documents is an input once per epoch and a target once: the target of a document's last token is the <|bos|>
    that ends it, that of a piece's last token is the next token of the document. The rows are the same in every epoch, in another
    order; long documents are always cut at the same positions.
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
            raise ValueError(f"{stream.name} has no tokens to pack; found {len(lengths)} empty documents; add text.")
        self._pieces = pack_documents(starts, lengths, seq_len)
        self.n_rows = self._pieces.n_rows

    def row(self, epoch: int, row: int) -> PackedRow:
        """Return a row, which is the same in every epoch."""
        ids = np.full(self.seq_len, self.pad_id, dtype=np.int64)
        targets = np.full(self.seq_len, IGNORE, dtype=np.int64)
        documents = np.full(self.seq_len, -1, dtype=np.int64) if self.mask_documents else None
        position, pieces = 0, self._pieces
        for number, piece in enumerate(range(pieces.first[row], pieces.first[row + 1])):
            start, length, is_end = int(pieces.starts[piece]), int(pieces.lengths[piece]), bool(pieces.is_end[piece])
            tokens = self.stream.read(start, start + length + (not is_end))
            part = slice(position, position + length)
            ids[part] = tokens[:length]
            targets[part] = np.append(tokens[1:length], self.stream.bos_id if is_end else tokens[length])
            if documents is not None:
                documents[part] = number
            position += length
        return PackedRow(ids, targets, documents)

    def find_spans(self, epoch: int, row: int) -> list[tuple[int, int]]:
        """Return the (start, stop) positions of the row's pieces in the split's stream."""
        part = slice(self._pieces.first[row], self._pieces.first[row + 1])
        starts, lengths = self._pieces.starts[part], self._pieces.lengths[part]
        return list(zip(starts.tolist(), (starts + lengths).tolist(), strict=True))

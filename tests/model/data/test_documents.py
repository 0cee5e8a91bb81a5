from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data.batches import Batch, RowBatches, StreamRows, TokenStream
from model.data.documents import PackedRows, Selection
from model.data.order import make_fair_cycle
from model.network.loss import IGNORE
from model.network.transformer import Transformer
from model.training.loop import TrainSettings, train
from tests.model.conftest import TINY, awake, write_shards

BOS = 1


class MemoryTokens:
    """Tokens that encode their position: token n of the stream is 100 + n."""

    name, bos_id = "memory", BOS

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = np.array(lengths, dtype=np.int64)
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.ids = np.arange(self.lengths.sum()) + 100

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= len(self)
        return self.ids[start:stop]

    def find_spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        return [(start, stop)]


def list_batches(batches: RowBatches) -> list[Batch]:
    return [batches.at(step) for step in range(-(-batches.n_rows // batches.batch_rows))]


LENGTHS = st.lists(st.integers(1, 6) | st.integers(1, 70), min_size=1, max_size=30)


@given(lengths=LENGTHS, seq_len=st.integers(1, 20), mask=st.booleans())
def test_each_token_is_an_input_and_a_target_once_per_epoch(lengths: list[int], seq_len: int, mask: bool) -> None:
    stream = MemoryTokens(lengths)
    rows = PackedRows(stream, stream.starts, stream.lengths, seq_len, mask_documents=mask)
    batches = RowBatches([rows], batch_rows=1, seed=1)
    pairs: Counter[tuple[int, int]] = Counter()
    for batch in list_batches(batches):
        used = batch.targets != IGNORE
        assert used.any()
        pairs.update(zip(batch.ids[used].tolist(), batch.targets[used].tolist(), strict=True))
        if batch.documents is not None:
            assert ((batch.documents >= 0) == used).all()
    ends = set((stream.starts + stream.lengths).tolist())
    expected = Counter((100 + at, BOS if at + 1 in ends else 101 + at) for at in range(len(stream)))
    assert pairs == expected


@given(lengths=LENGTHS, seq_len=st.integers(1, 20))
def test_spans_of_packed_rows_contain_their_tokens(lengths: list[int], seq_len: int) -> None:
    stream = MemoryTokens(lengths)
    batches = RowBatches([PackedRows(stream, stream.starts, stream.lengths, seq_len)], batch_rows=2, seed=1)
    for step in range(batches.n_rows):
        batch = batches.at(step)
        tokens = [int(token) for span in batches.find_spans(step) for token in stream.read(*span)]
        assert tokens == batch.ids[batch.targets != IGNORE].tolist()


@given(lengths=LENGTHS, keep=st.integers(0, 2**30), data=st.data())
def test_a_selection_concatenates_its_documents(lengths: list[int], keep: int, data: st.DataObject) -> None:
    stream = MemoryTokens(lengths)
    kept = np.array([bool(keep >> at & 1) for at in range(len(lengths))])
    selection = Selection(stream, stream.starts[kept], stream.lengths[kept], name="some")
    expected = [
        int(token)
        for start, length in zip(stream.starts[kept], stream.lengths[kept], strict=True)
        for token in stream.read(start, start + length)
    ]
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    assert len(selection) == len(expected)
    assert selection.read(start, stop).tolist() == expected[start:stop]
    assert [token for span in selection.find_spans(start, stop) for token in stream.read(*span)] == expected[start:stop]


def test_spans_of_a_selection_are_positions_in_the_stream() -> None:
    """Also where a row wraps around the end of the source."""
    stream = MemoryTokens([9, 4, 30, 7, 11])
    kept = np.array([0, 2, 4])
    selection = Selection(stream, stream.starts[kept], stream.lengths[kept], name="some")
    batches = RowBatches([StreamRows(selection, 8)], batch_rows=3, seed=1)
    for step in range(20):
        batch = batches.at(step)
        tokens = [int(token) for span in batches.find_spans(step) for token in stream.read(*span)]
        assert tokens == torch.cat((batch.ids, batch.targets[:, -1:]), 1).ravel().tolist()


def make_mixture(seed: int = 1) -> RowBatches:
    """Take a third of the rows from many short documents, packed, and the rest from a few long ones as a stream."""
    stream = MemoryTokens([5] * 30 + [90] * 4)
    packed = PackedRows(stream, stream.starts[:30], stream.lengths[:30], 12, mask_documents=True)
    long = Selection(stream, stream.starts[30:], stream.lengths[30:], name="long")
    rows = StreamRows(long, 12, mask_documents=True)
    return RowBatches([packed, rows], batch_rows=8, seed=seed, cycle=make_fair_cycle([1.0, 2.0]))


@pytest.mark.parametrize("n_ranks", [1, 2, 4])
def test_a_mixture_is_the_same_for_any_ranks_and_from_any_step(n_ranks: int) -> None:
    whole, other = make_mixture(), make_mixture()
    n_short = 0
    for step in reversed(range(40)):
        parts = [other.at(step, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
        expected = whole.at(step)
        assert torch.equal(torch.cat([part.ids for part in parts]), expected.ids)
        assert torch.equal(torch.cat([part.targets for part in parts]), expected.targets)
        assert expected.documents is not None
        assert sum((part.rows for part in parts), ()) == expected.rows
        n_short += sum(row < whole.sources[0].n_rows for row in expected.rows)
    assert abs(n_short - 40 * 8 / 3) < 1
    assert not torch.equal(make_mixture(seed=2).at(0).ids, whole.at(0).ids)


def test_a_document_in_a_packed_row_has_the_logits_that_it_has_alone() -> None:
    """Positions need no reset, because rotary attention depends on distances only."""
    lengths = [5, 9, 14, 3, 70]
    stream, model = MemoryTokens(lengths), awake()
    stream.ids = np.random.default_rng(0).integers(16, 300, len(stream))
    batches = RowBatches(
        [PackedRows(stream, stream.starts, stream.lengths, 32, mask_documents=True)], batch_rows=1, seed=1
    )
    n_shared = 0
    for batch in list_batches(batches):
        assert batch.documents is not None
        together = model.compute_logits(model(batch.ids, documents=batch.documents))
        for number in range(int(batch.documents.max()) + 1):
            piece = batch.documents[0] == number
            alone = model.compute_logits(model(batch.ids[:, piece]))
            torch.testing.assert_close(together[:, piece], alone, atol=1e-5, rtol=1e-5)
            n_shared += number > 0
    assert n_shared > 1


def test_documents_of_a_stream_do_not_attend_to_each_other(tmp_path: Path) -> None:
    tokens = write_shards(tmp_path, n_tokens=100, files=1)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    bos = int(tokens[10])
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"bos_id": bos}))
    row = StreamRows(TokenStream(tmp_path, "train"), 32, mask_documents=True).row(0, 0)
    assert row.documents is not None
    assert row.documents[9] != row.documents[10]
    model, ids = awake(), torch.from_numpy(row.ids)[None]
    together = model(ids, documents=torch.from_numpy(row.documents)[None])
    for number in np.unique(row.documents):
        piece = torch.from_numpy(row.documents == number)
        torch.testing.assert_close(together[:, piece], model(ids[:, piece]), atol=1e-5, rtol=1e-5)
    assert TINY.seq_len == 32


def test_a_selection_without_tokens_is_refused() -> None:
    stream, nothing = MemoryTokens([3]), np.zeros(0, dtype=np.int64)
    with pytest.raises(ValueError, match="no tokens to pack"):
        PackedRows(stream, nothing, nothing, 8)
    with pytest.raises(ValueError, match="too small"):
        StreamRows(Selection(stream, nothing, nothing, name="none"), 8)


def test_a_run_with_other_borders_does_not_go_on_from_these_checkpoints(tmp_path: Path) -> None:
    """The tokens are the same, what they see is not."""
    write_shards(tmp_path / "shards")
    stream, messages = TokenStream(tmp_path / "shards", "train"), list[str]()
    settings = TrainSettings(total_steps=2, precision="fp32", use_compile=False)
    for mask in (False, True, True):
        batches = RowBatches([StreamRows(stream, 16, mask_documents=mask)], batch_rows=2, seed=1)
        model = Transformer(TINY, seed=1)
        train(model, batches, settings=settings, checkpoints=tmp_path / "kept", on_message=messages.append)
        messages.append(str(mask))
    heard = " ".join(messages).split("True")
    assert "continuing" not in heard[0]
    assert "continuing after step 2 of 2" in heard[1]

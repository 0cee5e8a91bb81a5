"""Short rows at the start of a run: the same tokens, other rows."""

from __future__ import annotations

import pytest
import torch

from model.data.batches import StreamBatches, TokenStream
from model.data.short_rows import ShortRowBatches
from tests.model.conftest import write_shards


@pytest.fixture(scope="module")
def batches(tmp_path_factory: pytest.TempPathFactory) -> StreamBatches:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder)
    return StreamBatches(TokenStream(folder, "train"), seq_len=48, batch_rows=4, seed=1, mask_documents=True)


def test_short_rows_have_the_tokens_of_the_whole_ones_in_their_order(batches: StreamBatches) -> None:
    short = ShortRowBatches(batches, 48, 16, n_short_steps=3)
    assert (short.n_rows, short.batch_rows) == (batches.n_rows, 4)
    for step in range(5):
        whole, cut = batches.at(step), short.at(step)
        assert cut.ids.shape == ((12, 16) if step < 3 else (4, 48))
        assert cut.rows == whole.rows
        for before, after in zip(whole[:3], cut[:3], strict=True):
            assert torch.equal(before.flatten(), after.flatten())


def test_ranks_share_the_batch(batches: StreamBatches) -> None:
    short = ShortRowBatches(batches, 48, 24, n_short_steps=1)
    parts = [short.at(0, rank=rank, n_ranks=2).ids for rank in range(2)]
    assert torch.equal(torch.cat(parts), short.at(0).ids)


@pytest.mark.parametrize("row_tokens", [0, 20, 96])
def test_pieces_that_do_not_fill_a_row_are_refused(batches: StreamBatches, row_tokens: int) -> None:
    with pytest.raises(ValueError, match=r"short rows must divide the row of 48 tokens.*found"):
        ShortRowBatches(batches, 48, row_tokens, 1)

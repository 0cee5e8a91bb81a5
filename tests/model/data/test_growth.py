"""Batches that grow: the same rows in the same order, other numbers of them per step, cut into pieces."""

from __future__ import annotations

import pytest
import torch

from model.data.batches import StreamBatches, TokenStream
from model.data.growth import GrowingBatches, GrowthStage
from tests.model.conftest import write_shards

STAGES = [GrowthStage(3, 2, 16), GrowthStage(2, 4, 24), GrowthStage(9, 4, 48)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> StreamBatches:
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder)
    return StreamBatches(TokenStream(folder, "train"), seq_len=48, batch_rows=4, seed=1, mask_documents=True)


def test_steps_draw_the_rows_of_the_source_in_their_order(source: StreamBatches) -> None:
    growing = GrowingBatches(source, 48, STAGES)
    assert (growing.n_rows, growing.batch_rows) == (source.n_rows, 4)
    batches = [growing.at(step) for step in range(8)]
    assert [tuple(batch.ids.shape) for batch in batches] == [(6, 16)] * 3 + [(8, 24)] * 2 + [(4, 48)] * 3
    whole = source.read_rows(0, growing.count_rows(8))
    assert growing.count_rows(8) == 3 * 2 + 5 * 4
    assert sum((batch.rows for batch in batches), ()) == whole.rows
    for name in ("ids", "targets", "documents"):
        parts = [getattr(batch, name).flatten() for batch in batches]
        assert torch.equal(torch.cat(parts), getattr(whole, name).flatten())


def test_one_stage_of_whole_rows_changes_nothing(source: StreamBatches) -> None:
    growing = GrowingBatches(source, 48, [GrowthStage(0, 4, 48)])
    for step in range(3):
        assert torch.equal(growing.at(step).ids, source.at(step).ids)
        assert growing.find_spans(step) == source.find_spans(step)


def test_spans_are_those_of_the_rows(source: StreamBatches) -> None:
    growing = GrowingBatches(source, 48, STAGES)
    assert growing.find_spans(1) == source.find_row_spans(2, 4)
    assert growing.find_spans(3) == source.find_row_spans(6, 10)


@pytest.mark.parametrize("n_ranks", [2, 3, 6])
def test_ranks_share_the_pieces(source: StreamBatches, n_ranks: int) -> None:
    growing = GrowingBatches(source, 48, STAGES)
    parts = [growing.at(0, rank=rank, n_ranks=n_ranks).ids for rank in range(n_ranks)]
    assert torch.equal(torch.cat(parts), growing.at(0).ids)


def test_ranks_that_can_not_share_are_refused(source: StreamBatches) -> None:
    with pytest.raises(ValueError, match="multiple of the number of processes; found 6 and 4"):
        GrowingBatches(source, 48, STAGES).at(0, rank=0, n_ranks=4)


@pytest.mark.parametrize("row_tokens", [0, 20, 96])
def test_pieces_that_do_not_fill_a_row_are_refused(source: StreamBatches, row_tokens: int) -> None:
    with pytest.raises(ValueError, match=r"short rows must divide the row of 48 tokens.*found"):
        GrowingBatches(source, 48, [GrowthStage(1, 2, row_tokens), GrowthStage(1, 2, 48)])

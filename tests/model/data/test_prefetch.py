from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from model.data.batches import Batch, StreamBatches, TokenStream
from model.data.prefetch import Prefetcher
from tests.model.conftest import write_shards


@pytest.fixture
def batches(tmp_path: Path) -> StreamBatches:
    write_shards(tmp_path)
    return StreamBatches(TokenStream(tmp_path, "train"), seq_len=16, batch_rows=4, seed=1)


class Watched:
    """Batches that say when they were made, and by whom; some can't be."""

    n_rows, batch_rows = 100, 2

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad = bad
        self.made: list[int] = []
        self.threads: set[int] = set()
        self.is_made = {step: threading.Event() for step in range(20)}

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        self.threads.add(threading.get_ident())
        self.made.append(step)
        self.is_made[step].set()
        if step in self.bad:
            raise ValueError(f"batch {step} is damaged")
        return Batch(torch.full((2, 4), step), torch.full((2, 4), step))


def n_threads() -> int:
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_batches_are_the_same_in_any_order(batches: StreamBatches) -> None:
    with Prefetcher(batches) as ahead:
        assert (ahead.n_rows, ahead.batch_rows) == (batches.n_rows, 4)
        for step in (0, 0, 1, 2, 3, 7, 8, 5, 6, 100):
            assert torch.equal(ahead.at(step).ids, batches.at(step).ids)
        for rank in (1, 0):
            assert torch.equal(ahead.at(9, rank=rank, n_ranks=2).ids, batches.at(9, rank=rank, n_ranks=2).ids)


def test_the_next_one_is_made_while_nobody_asks() -> None:
    watched = Watched()
    with Prefetcher(watched) as ahead:
        ahead.at(3)
        assert watched.is_made[4].wait(10)
        assert watched.made == [3, 4]
    assert len(watched.threads) == 1
    assert watched.threads != {threading.get_ident()}


def test_an_error_comes_with_its_step() -> None:
    watched = Watched(bad=(2, 5))
    with Prefetcher(watched) as ahead:
        assert int(ahead.at(1).ids[0, 0]) == 1
        assert watched.is_made[2].wait(10)
        for _ in range(2):
            with pytest.raises(ValueError, match="batch 2 is damaged"):
                ahead.at(2)
        assert int(ahead.at(4).ids[0, 0]) == 4  # the end of the run: nobody asks for 5
    assert n_threads() == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_no_thread_is_left(error: type[BaseException]) -> None:
    def interrupted() -> None:
        with Prefetcher(Watched()) as ahead:
            ahead.at(0)
            assert n_threads() == 1
            raise error

    with pytest.raises(error):
        interrupted()
    assert n_threads() == 0

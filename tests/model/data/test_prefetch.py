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


class RecordingBatches:
    """Batches that record when and in which thread they are built; building the steps in `bad` fails."""

    n_rows, batch_rows = 100, 2

    def __init__(self, bad: tuple[int, ...] = ()) -> None:
        self.bad = bad
        self.built: list[int] = []
        self.threads: set[int] = set()
        self.is_built = {step: threading.Event() for step in range(20)}

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        self.threads.add(threading.get_ident())
        self.built.append(step)
        self.is_built[step].set()
        if step in self.bad:
            raise ValueError(f"batch {step} is damaged")
        return Batch(torch.full((2, 4), step), torch.full((2, 4), step))


def count_threads() -> int:
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_batches_are_equal_in_any_order_of_steps(batches: StreamBatches) -> None:
    with Prefetcher(batches) as prefetcher:
        assert (prefetcher.n_rows, prefetcher.batch_rows) == (batches.n_rows, 4)
        for step in (0, 0, 1, 2, 3, 7, 8, 5, 6, 100):
            assert torch.equal(prefetcher.at(step).ids, batches.at(step).ids)
        for rank in (1, 0):
            assert torch.equal(prefetcher.at(9, rank=rank, n_ranks=2).ids, batches.at(9, rank=rank, n_ranks=2).ids)


def test_the_next_batch_is_built_ahead_in_one_other_thread() -> None:
    recording = RecordingBatches()
    with Prefetcher(recording) as prefetcher:
        prefetcher.at(3)
        assert recording.is_built[4].wait(10)
        assert recording.built == [3, 4]
    assert len(recording.threads) == 1
    assert recording.threads != {threading.get_ident()}


def test_an_error_is_raised_at_its_step() -> None:
    recording = RecordingBatches(bad=(2, 5))
    with Prefetcher(recording) as prefetcher:
        assert int(prefetcher.at(1).ids[0, 0]) == 1
        assert recording.is_built[2].wait(10)
        for _ in range(2):
            with pytest.raises(ValueError, match="batch 2 is damaged"):
                prefetcher.at(2)
        assert int(prefetcher.at(4).ids[0, 0]) == 4  # the end of the run: step 5 is never requested
    assert count_threads() == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_no_thread_remains_after_an_error(error: type[BaseException]) -> None:
    def interrupt() -> None:
        with Prefetcher(RecordingBatches()) as prefetcher:
            prefetcher.at(0)
            assert count_threads() == 1
            raise error

    with pytest.raises(error):
        interrupt()
    assert count_threads() == 0

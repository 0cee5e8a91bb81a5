"""The next batch is made while a step runs: a thread beside the training loop, one batch ahead.

In: batches that are functions of the step. Out: the same batches, in the same order. All of them are made in that one thread, so
what makes them need not be safe for two. An error appears where its batch is asked for, not before; an error of a batch that
nobody asks for is none. Memory: one batch more. Time: what `at` takes is hidden behind the step, but for the first.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from model.data.batches import Batch, Batches


class Prefetcher:
    """`with Prefetcher(batches) as ahead:`; at the end of the block, also by an error or Ctrl-C, the thread is gone."""

    def __init__(self, batches: Batches) -> None:
        self.n_rows, self.batch_rows = batches.n_rows, batches.batch_rows
        self._batches = batches
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._wanted: tuple[int, int, int] | None = None
        self._next: Future[Batch] | None = None

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def at(self, step: int, *, rank: int = 0, n_ranks: int = 1) -> Batch:
        """The batch of this step, and the next one's making is begun."""
        if self._next is None or self._wanted != (step, rank, n_ranks):
            self._begin(step, rank, n_ranks)
        assert self._next is not None
        batch = self._next.result()
        self._begin(step + 1, rank, n_ranks)
        return batch

    def _begin(self, step: int, rank: int, n_ranks: int) -> None:
        if self._next is not None:
            self._next.cancel()  # not that of a step which is made already, or being made
        self._wanted = (step, rank, n_ranks)
        self._next = self._thread.submit(self._batches.at, step, rank=rank, n_ranks=n_ranks)

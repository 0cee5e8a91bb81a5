"""Build the next batch while a step runs: a thread next to the training loop, one batch ahead.

In: batches that are functions of the step. Out: the same batches, in the same order. All are built in that one thread, so their
source need not be thread-safe. An error is raised when its batch is requested, not before; an error of a batch that is never
requested is ignored. Memory: one more batch. Time: that of `at` is hidden behind the step, except for the first batch.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from model.data.batches import Batch, Batches


class Prefetcher:
    """Use it as `with Prefetcher(batches) as prefetcher:`; the thread has ended when the block ends, also by an error or Ctrl-C."""

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
        """Return the batch of this step, and start to build the next one."""
        if self._next is None or self._wanted != (step, rank, n_ranks):
            self._start(step, rank, n_ranks)
        assert self._next is not None
        batch = self._next.result()
        self._start(step + 1, rank, n_ranks)
        return batch

    def _start(self, step: int, rank: int, n_ranks: int) -> None:
        if self._next is not None:
            self._next.cancel()  # does nothing if the batch is being built or finished
        self._wanted = (step, rank, n_ranks)
        self._next = self._thread.submit(self._batches.at, step, rank=rank, n_ranks=n_ranks)

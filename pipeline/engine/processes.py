"""A map's work in a pool of processes of this machine. What a killed process had in hand is done again by another."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from pipeline.errors import UserError

Submit = Callable[[Any], Any]
Wait = Callable[[Any], Any]

MAX_DEATHS = 3  # workers that one map may lose: an item that kills each worker it meets must end some time


@contextmanager
def processes(workers: int, function: Callable[[Any], Any]) -> Generator[tuple[Submit, Wait]]:
    """A pool of processes; when one is killed the pool is made anew and what was under way is done again."""
    context = multiprocessing.get_context("spawn")

    def start() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))

    pool, deaths = start(), 0
    futures: dict[int, tuple[Any, Any]] = {}  # ticket → item and its future

    def submit(item: Any) -> int:
        ticket = next(tickets)
        try:
            futures[ticket] = item, pool.submit(function, item)
        except BrokenProcessPool:
            futures[ticket] = item, None
        return ticket

    def wait(ticket: int) -> Any:
        nonlocal pool, deaths
        while True:
            _, future = futures[ticket]
            try:
                if future is None:
                    raise BrokenProcessPool
                found = future.result()
                del futures[ticket]
                return found
            except BrokenProcessPool as error:
                deaths += 1
                if deaths > MAX_DEATHS:
                    raise UserError(
                        "engine: worker processes were killed",
                        f"{deaths} times; most often the machine ran out of memory",
                        "set MINIGPT_WORKERS=1, or look for the document that does it",
                    ) from error
                pool.shutdown(wait=True, cancel_futures=True)
                pool = start()
                for other, (its_item, its_future) in futures.items():
                    if its_future is None or not its_future.done() or its_future.exception() is not None:
                        futures[other] = its_item, pool.submit(function, its_item)

    tickets = iter(range(sys.maxsize))
    try:
        yield submit, wait
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends the pool
    die_with_parent(parent)


def follow_parent() -> None:
    """For a process whose parent said MINIGPT_PARENT=pid and held its signals while it started: they come through from here on, and
    it ends with the parent. Nothing of this runs between fork and exec, where a lock of another thread may be held for ever."""
    parent = os.environ.pop("MINIGPT_PARENT", "")
    if parent:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
        die_with_parent(int(parent))


def die_with_parent(parent: int) -> None:
    """This process is killed when `parent` (its parent's pid) ends, however that ends."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

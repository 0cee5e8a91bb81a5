"""Where a map over shards runs: in this process or in a pool of processes. The same bytes come out of either.

`MINIGPT_ENGINE` = serial | process, `MINIGPT_WORKERS` = number of processes (default: the cores there are). Results come
back in the order of the items, whichever finishes first; at most two items a worker are under way, which bounds memory.
A worker dies with its parent, also by kill -9 (Linux).
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

import xxhash

from pipeline.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

ENGINES = ("serial", "process")
# Files that this process does itself: starting workers takes as long, and they find the kernels compiled.
N_HERE = 6
BLOCK_BYTES = 1 << 22


def map_files(
    function: Callable[[Path, Path], None], paths: Sequence[Path], *, results: Path, settings: str
) -> Iterator[Path]:
    """`function(path, result)` writes one result file for each path; yields these files in the order of the paths.

    A result is named by a hash of the path's bytes and of `settings` (whatever else it depends on, as text): what a stopped
    run has finished in the folder `results` is found there and not made again, wherever the path stands in the list now.
    Only paths travel to the workers. A half-written result never shows.
    """
    results.mkdir(parents=True, exist_ok=True)
    keyed = [(path, results / file_key(path, settings)) for path in paths]
    todo = [item for item in {result: (path, result) for path, result in keyed}.values() if not item[1].exists()]
    work = partial(_make, function)
    made = chain(map(work, todo[:N_HERE]), map_shards(work, todo[N_HERE:]))
    for _, result in keyed:
        while not result.exists():
            next(made)
        yield result


def file_key(path: Path, settings: str) -> str:
    """32 hex digits that name the bytes of the file together with the settings."""
    digest = xxhash.xxh3_128(settings.encode())
    with path.open("rb") as file:
        while chunk := file.read(BLOCK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _make(function: Callable[[Path, Path], None], item: tuple[Path, Path]) -> None:
    path, result = item
    partial_result = result.with_name(f"{result.name}.{os.getpid()}.partial")
    try:
        function(path, partial_result)
        partial_result.replace(result)
    finally:
        partial_result.unlink(missing_ok=True)


def map_shards(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function(item)` for each item, in order. `function` and the items must be picklable (module level, or partial).

    Raises: `UserError` for an unknown engine, or when a worker was killed (out of memory, most often).
    """
    engine, workers = chosen_engine(), worker_count()
    if engine == "serial" or workers == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            "engine: a worker process was killed", "most often the machine ran out of memory", "set MINIGPT_WORKERS=1"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def chosen_engine() -> str:
    engine = os.environ.get("MINIGPT_ENGINE", "process")
    if engine not in ENGINES:
        raise UserError("MINIGPT_ENGINE: unknown engine", repr(engine), f"use one of {', '.join(ENGINES)}")
    return engine


def worker_count() -> int:
    """Processes to use: MINIGPT_WORKERS, else the cores this process may run on."""
    found = os.environ.get("MINIGPT_WORKERS", "")
    if found and not (found.isdigit() and int(found) > 0):
        raise UserError(
            "MINIGPT_WORKERS: not a positive number", repr(found), "give a number of processes, or unset it"
        )
    return (
        int(found)
        if found
        else len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
    )


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends the pool
    die_with_parent(parent)


def die_with_parent(parent: int) -> None:
    """This process is killed when `parent` (its parent's pid) ends, however that ends."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

"""A function over items, in order, on the engine that the environment names."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from pipeline.engine.clusters import dask_cluster, ray_cluster
from pipeline.engine.processes import Submit, Wait, processes
from pipeline.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")
Engine = Callable[[int, Callable[[Any], Any]], AbstractContextManager[tuple[Submit, Wait]]]

POOLS: dict[str, Engine] = {"process": processes, "dask": dask_cluster, "ray": ray_cluster}
ENGINES = ("serial", *POOLS)


def map_shards(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function(item)` for each item, in order. `function` and the items must be picklable (module level, or partial).

    Raises: `UserError` for an unknown engine, or when workers are killed again and again (out of memory, most often).
    """
    engine, workers = chosen_engine(), worker_count()
    if engine == "serial" or (engine == "process" and workers == 1):
        yield from map(function, items)
        return
    with POOLS[engine](workers, function) as (submit, wait):
        pending: deque[Any] = deque()
        for item in items:
            pending.append(submit(item))
            if len(pending) >= 2 * workers:
                yield wait(pending.popleft())
        while pending:
            yield wait(pending.popleft())


def check_environment() -> None:
    """Raises `UserError` for an unknown engine or number of workers, before any work."""
    chosen_engine()
    worker_count()


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

"""Map a function over items in this process, in a pool of processes, on Dask or on Ray. The results are the same on each engine.

Environment: `MINIGPT_ENGINE` (or `--engine`) is serial, process, dask or ray; `MINIGPT_WORKERS` is the number of processes
(default: the available cores); `MINIGPT_CLUSTER` is the address of a running Dask scheduler or Ray cluster (default: start one on
this machine, for as long as the map runs), whose workers must be able to import this package.

Memory: `TASKS_PER_WORKER` items and results per worker; items are taken only as earlier results are consumed. Tasks of a killed
worker are run again, up to `MAX_DEATHS` times. Workers of this machine end with their parent, also after kill -9 (Linux).

Not joblib: its ordered generator takes all items however slowly results are consumed, feeding it in windows that fit in memory
leaves the workers idle while the caller works (5.9 s instead of 4.6 s in docs/log.md), and its Ray backend has no generator.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeAlias, TypeVar

from pipeline.frame.environment import BY_NAME, read, read_count
from pipeline.frame.errors import UserError
from pipeline.frame.lifetime import die_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")
Submit: TypeAlias = Callable[[Any], Callable[[], Any]]  # start a task; the function returned waits for its result
Pool: TypeAlias = Callable[[int, Callable[[Any], Any]], AbstractContextManager[Submit]]

TASKS_PER_WORKER = 2
MAX_DEATHS = 3  # per map: a task that kills every worker that runs it must end the map at some point


def map_shards(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order. `function` and the items must be picklable (module level, or partial).

    Raises: `UserError` for an unknown engine, or when workers keep being killed (most often because memory ran out).
    """
    engine, workers = get_engine(), count_workers()
    if engine == "serial" or (engine == "process" and workers == 1):
        yield from map(function, items)
        return
    started, rest = deque[Item](), iter(items)
    for _ in range(MAX_DEATHS + 1):
        try:
            with POOLS[engine](workers, function) as submit:
                yield from _map_ordered(submit, started, rest, TASKS_PER_WORKER * workers)
            return
        except BrokenProcessPool:  # `started` contains every item whose result has not been yielded
            continue
    raise UserError(
        "engine: worker processes were killed",
        f"{MAX_DEATHS + 1} times; most often the machine ran out of memory",
        "set MINIGPT_WORKERS=1, or find the document that causes it",
    )


def _map_ordered(submit: Submit, started: deque[Any], rest: Iterator[Any], n_tasks: int) -> Iterator[Any]:
    """Yield results in order while at most `n_tasks` tasks run; first those of the items in `started`."""
    results = deque(submit(item) for item in started)
    while True:
        for item in islice(rest, n_tasks - len(started)):
            started.append(item)
            results.append(submit(item))
        if not results:
            return
        result = results.popleft()()
        started.popleft()
        yield result


def check_environment() -> None:
    """Raise `UserError` for an unknown engine or number of workers, before any work is done."""
    get_engine()
    count_workers()


def get_engine() -> str:
    """Return the engine that MINIGPT_ENGINE names."""
    return read("MINIGPT_ENGINE")


def count_workers() -> int:
    """Return the number of processes to use: MINIGPT_WORKERS, or else the cores that this process may run on."""
    if read("MINIGPT_WORKERS"):
        return read_count("MINIGPT_WORKERS", least=1)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _open_process_pool(workers: int, function: Callable[[Any], Any]) -> Generator[Submit]:
    """Run tasks in processes of this machine. Raises `BrokenProcessPool` when one of them is killed."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        yield lambda item: pool.submit(function, item).result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent ends the pool
    die_with_parent(parent)


@contextmanager
def _open_dask_pool(workers: int, function: Callable[[Any], Any]) -> Generator[Submit]:
    """Run tasks on Dask, which itself runs the tasks of a killed worker again."""
    dask, distributed = _import_extra("dask"), _import_extra("dask", "distributed")
    local = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",
        "set_as_default": False,
    }
    address = read("MINIGPT_CLUSTER")
    with dask.config.set({"distributed.scheduler.allowed-failures": MAX_DEATHS}):
        try:
            with distributed.Client(address) if address else distributed.Client(**local) as client:
                yield lambda item: client.submit(function, item, pure=False).result
        except distributed.KilledWorker as error:
            raise UserError(
                "engine: Dask workers were killed", str(error), "give them more memory, or fewer threads each"
            ) from error


@contextmanager
def _open_ray_pool(workers: int, function: Callable[[Any], Any]) -> Generator[Submit]:
    """Run tasks on Ray, which itself runs the tasks of a killed worker again."""
    ray = _import_extra("ray")
    local = {
        "address": "local",  # without it Ray joins a cluster that somebody else's file in /tmp names, running or not
        "num_cpus": workers,
        "include_dashboard": False,
        "runtime_env": {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}},
    }
    address = read("MINIGPT_CLUSTER")
    ray.init(log_to_driver=False, logging_level="ERROR", **({"address": address} if address else local))

    def apply(item: Any) -> Any:
        return function(item)

    remote = ray.remote(apply).options(max_retries=MAX_DEATHS)
    try:
        yield lambda item: partial(ray.get, remote.remote(item))
    except ray.exceptions.RayTaskError as error:
        raise error.cause or error from error
    except ray.exceptions.WorkerCrashedError as error:
        raise UserError(
            "engine: Ray workers were killed", str(error), "give them more memory, or fewer CPUs"
        ) from error
    finally:
        ray.shutdown()


def _import_extra(extra: str, module: str = "") -> Any:
    """Import a library that only one engine needs. Raises `UserError` if it is not installed."""
    try:
        return importlib.import_module(module or extra)
    except ImportError as error:
        raise UserError(f"MINIGPT_ENGINE: {extra} is not installed", str(error), f'pip install ".[{extra}]"') from error


ENGINES = BY_NAME["MINIGPT_ENGINE"].choices
POOLS: dict[str, Pool] = {
    "process": _open_process_pool,
    "dask": _open_dask_pool,
    "ray": _open_ray_pool,
}  # all engines but serial

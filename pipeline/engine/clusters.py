"""A map's work on a cluster of Dask or Ray: the running one at MINIGPT_CLUSTER, or one that is started on this machine.

Both do lost work again by themselves when a worker dies, `MAX_DEATHS` times. The workers of a running cluster must be
able to import this package: the same checkout installed, or on their PYTHONPATH.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from pipeline.engine.processes import MAX_DEATHS, Submit, Wait
from pipeline.errors import UserError


@contextmanager
def dask_cluster(workers: int, function: Callable[[Any], Any]) -> Generator[tuple[Submit, Wait]]:
    """A Dask cluster: the running one at MINIGPT_CLUSTER, or processes of this machine. Lost work is done again by Dask."""
    dask, distributed = _extra("dask"), _extra("dask", "distributed")
    address = os.environ.get("MINIGPT_CLUSTER", "")
    with dask.config.set({"distributed.scheduler.allowed-failures": MAX_DEATHS}):
        place = (
            distributed.Client(address)
            if address
            else distributed.Client(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                set_as_default=False,
            )
        )
        with place as client:

            def wait(future: Any) -> Any:
                try:
                    return future.result()
                except distributed.KilledWorker as error:
                    raise UserError(
                        "engine: Dask workers were killed", str(error), "give them more memory, or fewer threads each"
                    ) from error

            yield lambda item: client.submit(function, item, pure=False), wait


@contextmanager
def ray_cluster(workers: int, function: Callable[[Any], Any]) -> Generator[tuple[Submit, Wait]]:
    """A Ray cluster: the running one at MINIGPT_CLUSTER, or one of this machine. Lost work is done again by Ray."""
    ray = _extra("ray")
    address = os.environ.get("MINIGPT_CLUSTER", "")
    code = {"env_vars": {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}} if not address else None
    ray.init(
        address=address or None,
        num_cpus=None if address else workers,
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env=code,
    )

    def apply(item: Any) -> Any:
        return function(item)

    remote = ray.remote(apply).options(max_retries=MAX_DEATHS)

    def wait(reference: Any) -> Any:
        try:
            return ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            raise error.cause or error from error
        except ray.exceptions.WorkerCrashedError as error:
            raise UserError(
                "engine: Ray workers were killed", str(error), "give them more memory, or fewer CPUs"
            ) from error

    try:
        yield remote.remote, wait
    finally:
        ray.shutdown()


def _extra(extra: str, module: str = "") -> Any:
    """A library that only this engine needs. Raises `UserError` if it is not installed."""
    try:
        return importlib.import_module(module or extra)
    except ImportError as error:
        raise UserError(f"MINIGPT_ENGINE: {extra} is not installed", str(error), f'pip install ".[{extra}]"') from error

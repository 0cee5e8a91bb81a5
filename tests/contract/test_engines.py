"""Text stages give the same bytes on every engine, even if workers can't access our files."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import run_command, stage_commands
from tests.contract.test_stages import hash_files


@contextlib.contextmanager
def run_dask() -> Iterator[str]:
    """Run a Dask cluster; yield the address of its scheduler."""
    import distributed

    where = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, **where) as cluster:
        yield cluster.scheduler_address


@contextlib.contextmanager
def run_no_cluster() -> Iterator[str]:
    """Yield no address, so that each map starts a cluster of its own."""
    yield ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "run_cluster", "stages"),
    [
        ("ray", run_no_cluster, ("dedupe", "filter", "shard")),
        # Without filter, whose models Dask's workers load for each map anew: 40 processor seconds.
        ("dask", run_dask, ("dedupe", "shard")),
    ],
)
def test_the_same_bytes_on_a_cluster_without_shared_files(
    engine: str,
    run_cluster: Callable[[], AbstractContextManager[str]],
    stages: tuple[str, ...],
    finished_workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(finished_workspace, tmp_path / "work", symlinks=True)
    monkeypatch.setattr("pipeline.workers.results.N_HERE", 0)
    settings = {"MINIGPT_ENGINE": engine, "MINIGPT_WORKERS": "2", "MINIGPT_SHARE": str(tmp_path / "share")}
    with run_cluster() as address:
        for stage in stages:
            before = hash_files(tmp_path / "work" / "data" / stage)
            shutil.rmtree(tmp_path / "work" / "data" / stage)
            argv = stage_commands()[stage]
            assert run_command(tmp_path / "work", argv, MINIGPT_CLUSTER=address, **settings) == 0
            assert hash_files(tmp_path / "work" / "data" / stage) == before
            assert any((tmp_path / "share" / "results").iterdir())

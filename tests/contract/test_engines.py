"""Text stages give the same bytes on every engine, even if workers can't access our files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import run_command, stage_commands
from tests.contract.test_stages import hash_files

STAGES = ("dedupe", "filter", "shard")


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["dask", "ray"])
def test_the_same_bytes_on_a_cluster_without_shared_files(
    engine: str, finished_workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished_workspace, tmp_path / "work", symlinks=True)
    monkeypatch.setattr("pipeline.workers.results.N_HERE", 0)
    cluster = {"MINIGPT_ENGINE": engine, "MINIGPT_WORKERS": "2", "MINIGPT_SHARE": str(tmp_path / "share")}
    for stage in STAGES:
        before = hash_files(tmp_path / "work" / "data" / stage)
        shutil.rmtree(tmp_path / "work" / "data" / stage)
        assert run_command(tmp_path / "work", stage_commands()[stage], **cluster) == 0
        assert hash_files(tmp_path / "work" / "data" / stage) == before
        assert any((tmp_path / "share" / "results").iterdir())

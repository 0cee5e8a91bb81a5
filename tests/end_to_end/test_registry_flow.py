"""A model of the real stages passes through flow and registry: nothing is rerun; it is published, promoted and served."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.params import STAGES
from tests.conftest import ROOT
from tests.fake_repo import FakeRepo
from tests.serving import ask, serve_champion

pytestmark = pytest.mark.slow
CODE = ("pipeline", "model", "assistant", "flows")


class RealRepo(FakeRepo):
    """The finished workspace as a repository in which `dvc repro` has nothing to do."""

    def __init__(self, root: Path, finished_workspace: Path) -> None:
        self.root = root
        shutil.copytree(finished_workspace, root, dirs_exist_ok=True)
        for name in (*CODE, "data/raw"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        for name in ("dvc.yaml", "requirements.lock", ".dvcignore"):
            shutil.copy(ROOT / name, root / name)
        self.init_dvc()
        self.run("dvc", "commit", "-f", "-q")

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": ""}


def test_the_flow_publishes_and_promotes_a_real_model_which_is_served(finished_workspace: Path, tmp_path: Path) -> None:
    repo = RealRepo(tmp_path / "repo", finished_workspace)
    output = repo.run("flows", "retrain")
    assert output.count("Cached: nothing has changed") == len(STAGES)
    assert "Version 1 of minigpt (champion)" in output
    folder = repo.root / "var/champion"
    assert (folder / "model/model.safetensors").read_bytes() == (
        finished_workspace / "data/sft/model.safetensors"
    ).read_bytes()
    assert (folder / "index/passages.sqlite").read_bytes() == (
        finished_workspace / "data/index/passages.sqlite"
    ).read_bytes()
    assert json.loads((folder / "version.json").read_text())["alias"] == "champion"
    assert "<html" in (repo.root / "var/report.html").read_text()

    with serve_champion(repo, tmp_path) as port:
        question = {"input": [{"role": "user", "content": "What is 12 * 7?"}], "max_output_tokens": 16}
        answer = ask(port, question)
    assert answer["status"] == "completed"
    assert answer["usage"]["input_tokens"] > 5
    assert answer["output"][-1]["type"] == "message"

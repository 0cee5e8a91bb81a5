"""A newcomer's first hour: a model of the real stages passes through the flow, is served, and every command of the README works."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flows.processes.credentials import read_key
from flows.processes.server import find_free_port
from pipeline.params import STAGES
from tests.conftest import ROOT, build_once
from tests.fake_repo import FakeRepo
from tests.house.test_readme import LINES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
CODE = ("pipeline", "model", "assistant", "service", "flows")
# What the tests' corpus documents; and the stages after filter are run in a copy by no test, because that takes a minute.
HERE = {"numpy.linalg.norm": "prompt_toolkit.prompt", "sweep.compare": "sweep.compare --stage filter"}
PRINTED = "var/printed.txt"


class RealRepo(FakeRepo):
    """A repository with the code, the graph and the finished stages of a real run."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def environment(self) -> dict[str, str]:
        return super().environment() | {"PYTHONPATH": "", "MINIGPT_COMPILE": "0"}


@pytest.fixture(scope="module")
def promoted(finished_workspace: Path, prefect_history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository in which `dvc repro` had nothing to do and the flow has run, for the whole session. Never write to it."""

    def build(root: Path) -> None:
        shutil.copytree(finished_workspace, root, dirs_exist_ok=True)
        for name in (*CODE, "data/raw", "docs"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        for name in ("dvc.yaml", "requirements.lock", ".dvcignore"):
            shutil.copy(ROOT / name, root / name)
        repo = RealRepo(root)
        repo.init_dvc()
        repo.run("dvc", "commit", "-f", "-q", "dvc.yaml")
        (root / "var/prefect").mkdir()
        shutil.copy(prefect_history, root / "var/prefect")
        (root / PRINTED).write_text(repo.run("flows", "retrain"))

    return build_once(tmp_path_factory, "promoted", build)


@pytest.fixture
def repo(promoted: Path, tmp_path: Path) -> RealRepo:
    return RealRepo(shutil.copytree(promoted, tmp_path / "repo", symlinks=True))


def test_the_flow_publishes_and_promotes_a_real_model_which_is_served(repo: RealRepo, finished_workspace: Path) -> None:
    printed = (repo.root / PRINTED).read_text()
    assert printed.count("Cached: nothing has changed") == len(STAGES)
    assert "Version 1 of minigpt (champion)" in printed
    folder = repo.root / "var/champion"
    for part, stage in (("model", "sft"), ("index", "index")):
        files = [path for path in (folder / part).rglob("*") if path.is_file()]
        assert files
        for path in files:
            made = finished_workspace / "data" / stage / path.relative_to(folder / part)
            assert path.read_bytes() == made.read_bytes(), path
    assert json.loads((folder / "version.json").read_text())["alias"] == "champion"
    assert "<html" in (repo.root / "var/report.html").read_text()

    shutil.rmtree(repo.root / "assistant")  # what is served is the registered code
    port = find_free_port()
    with repo.start("flows", "invocations", "--port", str(port)) as running:
        assert running.stdout is not None
        try:
            line = next((line for line in running.stdout if line.startswith("  curl ")), "it ended")
            key = read_key(repo.root, "invocations")
            assert f"Authorization: Bearer {key}" in line
            assert ask(port, "")[0] == 401
            status, answer = ask(port, f"Bearer {key}")
        finally:
            running.send_signal(signal.SIGINT)
            running.stdout.read()
    assert (status, answer["status"]) == (200, "completed")
    assert answer["usage"]["input_tokens"] > 5
    assert answer["output"][-1]["type"] == "message"
    assert running.returncode == 0
    assert not (repo.root / "mlflow.db").exists()


def ask(port: int, authorization: str) -> tuple[int, Any]:
    """Ask the model; return the status and the answer."""
    headers = {"Content-Type": "application/json", "Authorization": authorization}
    body = {"input": [{"role": "user", "content": "What is 12 * 7?"}], "max_output_tokens": 16}
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=240
    )  # the first answer waits for the kernel to be compiled
    with contextlib.closing(connection):
        connection.request("POST", "/invocations", json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if answer.status == 200 else content


def test_the_commands_of_the_readme_work_after_a_run_in_their_order(repo: RealRepo) -> None:
    params = (repo.root / "params.yaml").read_bytes()
    commands = [line for line in LINES if not line.startswith("make ")]
    assert len(commands) >= 10
    for line in commands:
        assert (repo.root / "params.yaml").read_bytes() == params, "changed by the command before"
        for name, other in HERE.items():
            line = line.replace(name, other)
        command = ["sh", "-c", line]
        done = subprocess.run(
            command, cwd=repo.root, env=repo.environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, line
    assert (repo.root / "params.yaml").read_bytes() == (ROOT / "docs/recipes/gutenberg.yaml").read_bytes()
    assert list((repo.root / "var/trials").iterdir())

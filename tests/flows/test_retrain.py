"""The flow on a tiny repository: as a person starts it, with Prefect's own temporary server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows.processes.child import Finished
from flows.processes.workspace import WorkspaceBusyError, hold
from tests.fake_repo import FakeRepo

pytestmark = pytest.mark.slow
RETRAIN = ("flows", "retrain")
STAGES_ONLY = (*RETRAIN, "--no-register")


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's database, empty: made once, because that takes three seconds."""
    home = tmp_path_factory.mktemp("prefect")
    command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    subprocess.run(command, env={**os.environ, "PREFECT_HOME": str(home)}, check=True, capture_output=True)
    return home / "prefect.db"


@pytest.fixture
def repo(tmp_path: Path, history: Path) -> FakeRepo:
    repo = FakeRepo(tmp_path)
    (tmp_path / "var/prefect").mkdir()
    shutil.copy(history, tmp_path / "var/prefect")
    return repo


def states(repo: FakeRepo, table: str = "task_run") -> list[tuple[str, str]]:
    """Name and state of each run in Prefect's own database, the oldest first."""
    with sqlite3.connect(repo.root / "var/prefect/prefect.db") as base:
        name = "name" if table == "task_run" else "'retrain'"
        return base.execute(f"select {name}, state_name from {table} order by created").fetchall()


def processes_below(root: Path) -> list[str]:
    """Everything that runs in that folder, whoever started it."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "cwd", "status"])
        if (process.info["cwd"] or "").startswith(str(root)) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} never came"
        time.sleep(0.05)


def test_a_first_run_a_second_and_a_worse_model(repo: FakeRepo) -> None:
    said = repo.run(*RETRAIN)
    assert "Version 1 of minigpt (champion)" in said
    assert "make chat" in said
    assert "Running stage" not in said
    assert " | sft             | [###] 100 %\n" in said
    wanted = ["sft", "evaluate", "publish", "gate", "promote"]
    assert states(repo) == [(name, "Completed") for name in wanted]
    assert json.loads((repo.root / "var/champion/version.json").read_text())["version"] == "1"
    assert "MiniGPT: what this model can do" in (repo.root / "var/report.md").read_text()

    said = repo.run(*RETRAIN)
    assert "Version 1 of minigpt (champion)" in said
    assert "published before" in said
    again = [("publish", "Completed") if name == "publish" else (name, "Cached") for name in wanted]
    assert states(repo)[5:] == again

    repo.knobs(bpb=1.8)
    said = repo.run(*RETRAIN)
    assert "REFUSED BY THE GATE" in said
    assert "The champion stays as it is: bpb 1.79" in said
    assert states(repo)[-1] == ("gate", "Refused")
    assert json.loads((repo.root / "var/champion/version.json").read_text())["version"] == "1"

    assert [state for _, state in states(repo, "flow_run")] == ["Completed", "Completed", "Refused"]
    assert artifacts(repo) >= {"retrain", "report"}
    assert not processes_below(repo.root)


def artifacts(repo: FakeRepo) -> set[str]:
    with sqlite3.connect(repo.root / "var/prefect/prefect.db") as base:
        return {key for (key,) in base.execute("select distinct key from artifact")}


def test_whatever_ends_it_nothing_is_left_and_the_next_run_goes_on(repo: FakeRepo) -> None:
    repo.knobs(until="never")
    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        pid = repo.root / "var/stage.pid"
        pid.unlink(missing_ok=True)
        running = repo.start(*STAGES_ONLY)
        wait_for(pid)
        with pytest.raises(WorkspaceBusyError, match=f"process {running.pid}, "), hold(repo.root):
            pass
        running.send_signal(number)
        said, _ = running.communicate(timeout=30)
        assert (running.returncode, "stopped" in said) == (code, number != signal.SIGKILL)
    assert states(repo, "flow_run") == [("retrain", "Crashed")] * 3
    assert states(repo) == [("sft", "Crashed")] * 3
    with hold(repo.root):
        assert not processes_below(repo.root)


def test_a_busy_lock_is_waited_for(repo: FakeRepo) -> None:
    """Somebody's own `dvc repro` holds DVC's lock for a while; the task tries again."""
    repo.knobs(until="var/go")
    by_hand = repo.start("dvc", "repro", "-q", "sft")
    wait_for(repo.root / "var/stage.pid")
    with repo.start(*STAGES_ONLY) as running:
        assert running.stdout is not None
        lines: list[str] = []
        for line in running.stdout:
            lines.append(line)
            if "trying again" in line:
                (repo.root / "var/go").touch()
    by_hand.communicate()
    assert (running.returncode, by_hand.returncode) == (0, 0), lines
    assert any("trying again" in line for line in lines)
    assert states(repo)[0] == ("sft", "Cached")


def test_ui_shows_both_and_serves_the_flow_meanwhile(repo: FakeRepo) -> None:
    with repo.start("flows", "ui") as ui:
        assert ui.stdout is not None
        lines: list[str] = []
        for line in ui.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        urls = [line.split()[-1] for line in lines if "http://" in line]
        assert len(urls) == 2, lines
        assert "running already" in repo.run("flows", "ui")
        repo.knobs(error=True)
        check_error(repo.run(*STAGES_ONLY, code=1))  # by that server: a stage's own error
        ui.send_signal(signal.SIGINT)
        assert "ending both" in ui.stdout.read()
    assert ui.returncode == 0
    assert not processes_below(repo.root)
    assert not (repo.root / "var/prefect/server.json").exists()


def check_error(said: str) -> None:
    assert "error: sft failed: sft.training.seed: too lucky\n  found: 13\n  to do: take another one\n" in said
    assert "Traceback" not in said
    assert "exited with" not in said


def test_own_words_are_the_stages_and_not_dvcs() -> None:
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    from flows.retrain import own_words

    lines = [
        "sft: error: old",
        "error: sft: a\n",
        "  found: b",
        "  to do: c",
        "ERROR: failed to reproduce 'sft': exited with 1",
    ]
    assert own_words("sft", Finished(1, [line.rstrip() for line in lines])) == "sft: a\n  found: b\n  to do: c"
    assert own_words("sft", Finished(9, [])) == "ended with exit code 9 and said nothing"
    trace = ["Traceback (most recent call last):", *(f"  line {i}" for i in range(20)), "ValueError: x"]
    assert own_words("sft", Finished(1, trace)).splitlines()[-1] == "ValueError: x"

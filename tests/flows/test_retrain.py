"""The flow on a tiny repository, started as a user would, with a temporary Prefect server."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import time
import uuid
from pathlib import Path

import psutil
import pytest

from flows.processes.child import Finished
from flows.processes.workspace import WorkspaceBusyError, hold
from flows.steps.sequence import extract_error
from tests.fake_repo import FakeRepo
from tests.flows.conftest import list_processes

pytestmark = pytest.mark.slow
RETRAIN = ("flows", "retrain")
STAGES_ONLY = (*RETRAIN, "--no-register")


@pytest.fixture
def repo(tmp_path: Path, prefect_history: Path) -> FakeRepo:
    repo = FakeRepo(tmp_path)
    (tmp_path / "var/prefect").mkdir()
    shutil.copy(prefect_history, tmp_path / "var/prefect")
    return repo


def read_states(repo: FakeRepo, table: str = "task_run") -> list[tuple[str, str]]:
    """Return name and state of each run in Prefect's database, the oldest first."""
    with sqlite3.connect(repo.root / "var/prefect/prefect.db") as base:
        name = "name" if table == "task_run" else "'retrain'"
        return base.execute(f"select {name}, state_name from {table} order by created").fetchall()


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until, f"{path} was never written"
        time.sleep(0.05)


def test_a_first_run_a_second_and_a_worse_model(repo: FakeRepo) -> None:
    output = repo.run(*RETRAIN)
    assert "Version 1 of minigpt (champion)" in output
    assert "make chat" in output
    assert "Running stage" not in output
    assert " | sft             | [###] 100 %\n" in output
    wanted = ["sft", "evaluate", "publish", "gate", "promote"]
    assert read_states(repo) == [(name, "Completed") for name in wanted]
    assert json.loads((repo.root / "var/champion/version.json").read_text())["version"] == "1"
    assert "MiniGPT: what this model can do" in (repo.root / "var/report.md").read_text()

    output = repo.run(*RETRAIN)  # nothing has changed: no server is started
    assert "Version 1 of minigpt (champion)" in output
    assert output.count("Cached: nothing has changed") == len(wanted)
    assert len(read_states(repo)) == len(wanted)

    shutil.rmtree(repo.root / "var/outcomes")  # as `make clean` does: the registry is asked again
    output = repo.run(*RETRAIN)
    assert "Version 1 of minigpt (champion)" in output
    assert "published before" in output
    again = [("publish", "Completed") if name == "publish" else (name, "Cached") for name in wanted]
    assert read_states(repo)[5:] == again

    repo.knobs(bpb=1.8)
    output = repo.run(*RETRAIN)
    assert "REFUSED BY THE GATE" in output
    assert "The champion stays: worse: bpb 1.79" in output
    assert read_states(repo)[-1] == ("gate", "Refused")
    assert json.loads((repo.root / "var/champion/version.json").read_text())["version"] == "1"

    assert [state for _, state in read_states(repo, "flow_run")] == ["Completed", "Completed", "Refused"]
    assert read_artifact_keys(repo) >= {"retrain", "report"}
    assert list_edges(repo) >= {("sft", "evaluate"), ("evaluate", "publish"), ("publish", "gate"), ("gate", "promote")}
    assert not list_processes(repo.root)


def list_edges(repo: FakeRepo) -> set[tuple[str, str]]:
    """Return the dependencies between tasks that Prefect draws: pairs of names."""
    with sqlite3.connect(repo.root / "var/prefect/prefect.db") as base:
        rows = base.execute("select id, name, task_inputs from task_run").fetchall()
    names = {uuid.UUID(str(number)).hex: name for number, name, _ in rows}
    inputs = [(name, json.loads(text).get("wait_for", [])) for _, name, text in rows]
    return {(names[uuid.UUID(each["id"]).hex], name) for name, needed in inputs for each in needed}


def read_artifact_keys(repo: FakeRepo) -> set[str]:
    with sqlite3.connect(repo.root / "var/prefect/prefect.db") as base:
        return {key for (key,) in base.execute("select distinct key from artifact")}


def test_however_it_is_killed_no_process_is_left_and_the_next_run_continues(repo: FakeRepo) -> None:
    repo.knobs(until="never")
    for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)):
        pid = repo.root / "var/stage.pid"
        pid.unlink(missing_ok=True)
        running = repo.start(*STAGES_ONLY)
        wait_for(pid)
        with pytest.raises(WorkspaceBusyError, match=f"process {running.pid}, "), hold(repo.root):
            pass
        running.send_signal(number)
        output, _ = running.communicate(timeout=30)
        assert (running.returncode, "stopped" in output) == (code, number != signal.SIGKILL)
        assert "Exception in thread" not in output
    assert read_states(repo, "flow_run") == [("retrain", "Crashed")] * 3
    assert read_states(repo) == [("sft", "Crashed")] * 3
    with hold(repo.root):
        assert not list_processes(repo.root)


def test_a_busy_lock_is_retried(repo: FakeRepo) -> None:
    """A manual `dvc repro` holds DVC's lock for a while; the task tries again."""
    repo.knobs(until="var/go")
    manual = repo.start("dvc", "repro", "-q", "sft")
    wait_for(repo.root / "var/stage.pid")
    with repo.start(*STAGES_ONLY) as running:
        assert running.stdout is not None
        lines: list[str] = []
        for line in running.stdout:
            lines.append(line)
            if "trying again" in line:
                (repo.root / "var/go").touch()
    manual.communicate()
    assert (running.returncode, manual.returncode) == (0, 0), lines
    assert any("trying again" in line for line in lines)
    assert read_states(repo)[0] == ("sft", "Cached")


def test_the_error_is_the_stages_and_not_that_of_dvc() -> None:
    lines = [
        "sft: error: old",
        "error: sft: a\n",
        "  found: b",
        "  to do: c",
        "ERROR: failed to reproduce 'sft': exited with 1",
    ]
    assert extract_error("sft", Finished(1, [line.rstrip() for line in lines])) == "sft: a\n  found: b\n  to do: c"
    assert extract_error("sft", Finished(9, [])) == "exit code 9, without any output"
    trace = ["Traceback (most recent call last):", *(f"  line {i}" for i in range(20)), "ValueError: x"]
    assert extract_error("sft", Finished(1, trace)).splitlines()[-1] == "ValueError: x"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_run_whose_server_dies_goes_on_without_it(repo: FakeRepo, number: signal.Signals) -> None:
    repo.knobs(until="var/go")
    running = repo.start(*STAGES_ONLY)
    wait_for(repo.root / "var/stage.pid")
    [server] = [
        process
        for process in psutil.process_iter(["cmdline", "cwd"])
        if process.info["cwd"] == str(repo.root)
        and (process.info["cmdline"] or [])[1:4] == ["-m", "flows.processes.host", "prefect"]
    ]
    server.send_signal(number)
    started = time.monotonic()
    (repo.root / "var/go").touch()
    output, _ = running.communicate(timeout=120)
    assert time.monotonic() - started < 60
    assert running.returncode == 0, output
    assert "Prefect's server is lost (" in output
    assert "Done in" in output
    assert (repo.root / "data/evaluate/items.parquet").exists()
    assert "Error logging" not in output
    assert "Traceback" not in output


def test_a_run_whose_server_does_not_start_goes_without(repo: FakeRepo) -> None:
    base = repo.root / "var/prefect/prefect.db"
    base.write_text("this is no database")
    output = repo.run(*STAGES_ONLY)
    assert "going on without Prefect" in output
    assert "found: its process ended" in output
    assert "Done in" in output
    assert not list_processes(repo.root)

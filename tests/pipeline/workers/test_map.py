"""The map over shards gives the same results in the same order on every engine, and no worker outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pipeline.frame.errors import UserError
from pipeline.workers.map import TASKS_PER_WORKER, count_workers, map_shards
from tests.conftest import ROOT


def slow_square(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0.0)
    return number * number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_once(number: int, folder: Path) -> int:
    """Kill the worker that first runs number 5, but not the one that runs it again."""
    with (folder / f"{number}").open("a") as calls:
        calls.write("called\n")
    if number == 5 and (folder / "5").read_text() == "called\n":
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def fail(number: int) -> int:
    raise UserError("bad item", str(number), "fix it")


@pytest.mark.parametrize(("engine", "workers"), [("serial", "1"), ("process", "1"), ("process", "2")])
def test_results_come_in_order(engine: str, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", engine)
    monkeypatch.setenv("MINIGPT_WORKERS", workers)
    assert list(map_shards(slow_square, range(20))) == [number * number for number in range(20)]


CLUSTERS = [pytest.param("dask", marks=pytest.mark.slow), pytest.param("ray", marks=pytest.mark.slow)]


@pytest.mark.parametrize("engine", ["process", *CLUSTERS])
def test_a_killed_worker_loses_nothing(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", engine)
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    found = list(map_shards(partial(die_once, folder=tmp_path), range(12)))
    assert found == [number * number for number in range(12)]
    assert len((tmp_path / "5").read_text().splitlines()) >= 2


@pytest.mark.parametrize("engine", ["process", *CLUSTERS])
def test_an_item_that_kills_every_worker_is_an_error_and_does_not_hang(
    engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", engine)
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    with pytest.raises(UserError, match="killed"):
        list(map_shards(die, range(4)))


@pytest.mark.parametrize("engine", ["process", *CLUSTERS])
def test_a_user_error_in_a_worker_reaches_the_caller(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", engine)
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    with pytest.raises(UserError, match="bad item"):
        list(map_shards(fail, range(4)))


def test_items_are_taken_no_faster_than_results_are_consumed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check on one engine: the map itself takes the items, whatever runs them."""
    monkeypatch.setenv("MINIGPT_ENGINE", "process")
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    taken: list[int] = []
    results = map_shards(slow_square, (taken.append(number) or number for number in range(40)))
    for n_consumed in range(1, 41):
        next(results)
        time.sleep(0.01)  # let the workers get ahead, if they can
        assert len(taken) <= n_consumed - 1 + TASKS_PER_WORKER * 2
    assert list(results) == []


@pytest.mark.skipif(sys.platform != "linux", reason="lists the processes of a group")
def test_ctrl_c_ends_parent_and_workers_without_tracebacks_of_workers() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_WORKERS": "2", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(ROOT / "tests" / "pipeline" / "workers" / "worker_main.py"), "1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        os.killpg(parent.pid, signal.SIGINT)
        errors = parent.stderr.read()
        assert parent.wait() == -signal.SIGINT
        assert errors.count("Traceback") == 1, errors
        assert "KeyboardInterrupt" in errors
        assert not any(is_alive(pid) for pid in workers)


@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_a_wrong_number_of_workers_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WORKERS", value)
    with pytest.raises(UserError, match="MINIGPT_WORKERS"):
        count_workers()


def test_an_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", "abacus")
    with pytest.raises(UserError, match="MINIGPT_ENGINE"):
        list(map_shards(slow_square, [1]))


@pytest.mark.skipif(sys.platform != "linux", reason="workers die with their parent on Linux only")
def test_no_worker_outlives_a_killed_parent() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_WORKERS": "2", "PYTHONUNBUFFERED": "1"}
    script = ROOT / "tests" / "pipeline" / "workers" / "worker_main.py"  # spawned workers import it again
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=env) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 10
        while any(is_alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(is_alive(pid) for pid in workers)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # a zombie that is not reaped counts as dead

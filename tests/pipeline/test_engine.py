"""The map over shards: same results in the same order wherever it runs, and no worker outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.engine import map_files, map_shards, worker_count
from pipeline.errors import UserError
from tests.conftest import ROOT


def slow_square(number: int) -> int:
    time.sleep(0.02 if number % 3 == 0 else 0.0)
    return number * number


def die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    raise UserError("bad item", str(number), "mend it")


@pytest.mark.parametrize(("engine", "workers"), [("serial", "1"), ("process", "1"), ("process", "2")])
def test_results_come_in_order(engine: str, workers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", engine)
    monkeypatch.setenv("MINIGPT_WORKERS", workers)
    assert list(map_shards(slow_square, range(20))) == [number * number for number in range(20)]


def test_a_killed_worker_is_an_error_and_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    with pytest.raises(UserError, match="killed"):
        list(map_shards(die, range(4)))


def test_an_error_in_a_worker_reaches_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    with pytest.raises(UserError, match="bad item"):
        list(map_shards(fail, range(4)))


@pytest.mark.parametrize("value", ["0", "-1", "two"])
def test_a_wrong_number_of_workers_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_WORKERS", value)
    with pytest.raises(UserError, match="MINIGPT_WORKERS"):
        worker_count()


def test_an_unknown_engine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", "abacus")
    with pytest.raises(UserError, match="MINIGPT_ENGINE"):
        list(map_shards(slow_square, [1]))


@pytest.mark.skipif(sys.platform != "linux", reason="workers die with their parent on Linux only")
def test_no_worker_outlives_a_killed_parent() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MINIGPT_WORKERS": "2", "PYTHONUNBUFFERED": "1"}
    script = ROOT / "tests" / "pipeline" / "worker_main.py"  # spawned workers import it again
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
    return state != "Z"  # a zombie that nobody reaps is dead enough


def copy_twice(path: Path, result: Path) -> None:
    with (path.parent / "calls.log").open("a") as calls:
        calls.write(f"{path.name}\n")
    if path.read_text() == "broken":
        result.write_text("half")
        raise UserError("bad file", path.name, "mend it")
    result.write_text(path.read_text() * 2)


@pytest.mark.parametrize(("engine", "workers"), [("serial", "1"), ("process", "2")])
def test_files_that_a_stopped_run_has_finished_are_not_made_again(
    engine: str, workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", engine)
    monkeypatch.setenv("MINIGPT_WORKERS", workers)
    paths = [tmp_path / f"{number}.txt" for number in range(9)]
    for number, path in enumerate(paths):
        path.write_text("broken" if number == 8 else f"text {number // 2}")
    results = tmp_path / "results"
    with pytest.raises(UserError, match="bad file"):
        list(map_files(copy_twice, paths, results=results, settings="a"))
    assert not list(results.glob("*.partial"))
    paths[8].write_text("mended")
    (tmp_path / "calls.log").unlink()
    made = list(map_files(copy_twice, paths[::-1], results=results, settings="a"))
    assert [path.read_text() for path in made] == [path.read_text() * 2 for path in paths[::-1]]
    assert (tmp_path / "calls.log").read_text() == "8.txt\n"
    assert not set(map_files(copy_twice, paths, results=results, settings="b")) & set(made)

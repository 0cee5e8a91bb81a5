"""Live curves: a real server shows every step, and a server that is unreachable or never answers does not delay training."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.registry.store import LIVE_EXPERIMENT, LIVE_SETTINGS
from pipeline.training import live as live_module
from pipeline.training.live import MOST_PENDING, Live, get_points
from tests.conftest import ROOT
from tests.pipeline.training.test_live import make_record


def test_samples_are_not_metrics() -> None:
    with_text = dataclasses.replace(make_record(2), evaluation={"bpb": 2.0, "samples": ["a", "b"]})
    assert get_points(with_text) == get_points(make_record(2))
    assert get_points(make_record(2)).keys() >= {"loss_nats", "grad_norm", "tokens_per_second", "bpb"}


class SlowRun:
    """A run whose server answers only when the test resolves the futures."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.futures: list[Future[Any]] = []
        self.status = ""

    def log(self, metrics: dict[str, float], step: int) -> Future[Any]:
        self.steps.append(step)
        self.futures.append(Future())
        return self.futures[-1]

    def end(self, status: str) -> None:
        self.status = status


def test_unsent_steps_are_bounded_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = SlowRun()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr("pipeline.registry.store.open_live_run", lambda name, key: run)
    monkeypatch.setattr(live_module, "CLOSE_SECONDS", 0.5)
    with Live("pretrain", tmp_path) as live:
        live.on_step(make_record(1))
        curves = live._curves
        assert curves is not None
        curves._thread.join()
        for step in range(2, 2 * MOST_PENDING + 12):
            live.on_step(make_record(step))
        assert run.steps == list(range(1, MOST_PENDING + 1))
        run.futures[0].set_result(None)
        run.futures[1].set_exception(ConnectionError("reset"))
    assert run.steps == list(range(1, MOST_PENDING + 3))
    assert run.status == "FINISHED"
    errors = capsys.readouterr().err
    assert f"{2 * MOST_PENDING + 10} of {2 * MOST_PENDING + 11} steps are missing" in errors
    assert "ConnectionError: reset" in errors


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Start an MLflow server; yield its address and the folder of its store."""
    folder = tmp_path_factory.mktemp("server")
    with mlflow_server(folder) as url:
        yield url, folder


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Generator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--default-artifact-root",
        str(folder / "files"),
    ]
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *store]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # two processes instead of ten
    environment = {**os.environ, **quiet}
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as server,
    ):
        try:
            for _ in range(600):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
                    break
                assert server.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            os.killpg(server.pid, 15)


def request_json(url: str, path: str, **body: Any) -> Any:
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/{path}", headers={"Content-Type": "application/json"})
    if body:
        request.data = json.dumps(body).encode()
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_real_server_shows_the_curve(server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed run is one run on the server, also if code in this process has opened another store before."""
    import mlflow

    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", f"sqlite:///{tmp_path / 'other.db'}")
    assert mlflow.get_tracking_uri().endswith("other.db")
    monkeypatch.setattr(live_module, "CLOSE_SECONDS", 120.0)
    scratch = tmp_path / "the-run-key"
    scratch.mkdir()
    url, _ = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    for name, value in LIVE_SETTINGS.items():
        monkeypatch.setenv(name, value)  # restored after the test
    for part in (range(1, 4), range(4, 6)):
        with Live("pretrain", scratch) as live:
            for step in part:
                live.on_step(make_record(step))
    experiment = request_json(url, f"experiments/get-by-name?experiment_name={LIVE_EXPERIMENT}")["experiment"]
    (run,) = request_json(url, "runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]
    assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", "pretrain")
    history = request_json(url, f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=loss_nats")["metrics"]
    assert {int(point["step"]): point["value"] for point in history} == {step: 1 / step for step in range(1, 6)}


TRAIN = """
import os, signal, sys, time
from pathlib import Path
from pipeline.training import live as live_module
from pipeline.training.live import Live
from tests.pipeline.training.test_live import make_record
live_module.CLOSE_SECONDS = 4.0
slowest, n_steps, stopped = 0.0, int(sys.argv[2]), [int(pid) for pid in sys.argv[3:]]
with Live("pretrain", Path(sys.argv[1])) as live:
    for step in range(1, n_steps + 1):
        started = time.thread_time()
        live.on_step(make_record(step))
        slowest = max(slowest, time.thread_time() - started)
        if step == 1 and stopped:
            live._curves._thread.join()
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
    last = time.monotonic()
print("mlflow" in sys.modules, slowest < 0.5, last, flush=True)
"""
EXIT_SECONDS = 4 + 2 * 4 + 30  # CLOSE_SECONDS, MLflow's pending requests, and a margin for a busy machine


def train(folder: Path, n_steps: int, *stopped: int, **environment: str) -> tuple[list[str], str, float]:
    """Log steps in a separate process. Return its output, its errors, and the seconds from the last step to its exit."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    completed = subprocess.run(
        [sys.executable, "-c", TRAIN, str(folder), str(n_steps), *map(str, stopped)],
        cwd=ROOT,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    ended = time.monotonic()  # all processes of a machine share this clock
    assert completed.returncode == 0, completed.stderr
    *printed, last = completed.stdout.split()
    return printed, completed.stderr, ended - float(last)


@pytest.mark.slow
def test_without_a_server_mlflow_is_not_imported(tmp_path: Path) -> None:
    for environment in ({}, {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}):
        printed, errors, _ = train(tmp_path, 1, **environment)
        assert (printed, errors) == (["False", "True"], "")


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["refuses", "never answers"])
def test_unreachable_server_is_reported_once_and_blocks_nothing(answers: str, tmp_path: Path) -> None:
    n_steps = 3 * MOST_PENDING
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if answers == "never answers":
            listener.listen(64)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        printed, errors, seconds = train(tmp_path, n_steps, MLFLOW_TRACKING_URI=url)
    assert printed == ["True", "True"]
    assert errors.count(f"{n_steps} of {n_steps} steps are missing from the live curves in MLflow") == 1
    assert "Traceback" not in errors
    assert len((tmp_path / "steps.jsonl").read_text().splitlines()) == n_steps
    assert seconds < EXIT_SECONDS


@pytest.mark.slow
def test_server_that_stops_answering_does_not_block_the_exit(server: tuple[str, Path], tmp_path: Path) -> None:
    """MLflow joins its threads at exit, which wait at most for its request timeouts."""
    url, folder = server
    servers = find_server_pids(folder)
    try:
        printed, errors, seconds = train(tmp_path, 3 * MOST_PENDING, *servers, MLFLOW_TRACKING_URI=url)
    finally:
        for pid in servers:
            os.kill(pid, signal.SIGCONT)
    assert printed == ["True", "True"]
    assert errors.count("steps are missing") == 1
    assert seconds < EXIT_SECONDS


def find_server_pids(folder: Path) -> list[int]:
    """Return the pids of the server whose store is in this folder, and of its children."""
    server = next(each for each in psutil.process_iter() if f"sqlite:///{folder}/mlflow.db" in _read_command(each))
    return [server.pid, *(child.pid for child in server.children(recursive=True))]


def _read_command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []

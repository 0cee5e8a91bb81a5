"""Live curves: every step arrives once the run has ended, a real server shows them, and one that is away stops nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from pipeline.curves import END, EXPERIMENT, Point, Tail, follow, points_of
from pipeline.live import Live
from tests.conftest import ROOT
from tests.pipeline.test_live import record


def test_samples_are_no_points() -> None:
    with_text = dataclasses.replace(record(2), evaluation={"bpb": 2.0, "samples": ["a", "b"]})
    assert points_of(with_text) == points_of(record(2))


def test_a_growing_file_is_read_in_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.touch()
    with path.open("a", buffering=1) as writer, path.open() as reader:
        tail, seen = Tail(reader), list[str]()
        for part in ("a\nb", "b\n", "", "ccc\nd\n"):
            writer.write(part)
            writer.flush()
            seen += tail.lines()
    assert seen == ["a", "bb", "ccc", "d"]


@pytest.mark.parametrize("ends_well", [True, False])
def test_every_step_is_sent_before_the_end(tmp_path: Path, ends_well: bool) -> None:
    path, sent = tmp_path / "steps.jsonl", list[Point]()
    path.touch()
    steps = iter([[1, 2], [], [3], [4, 5]])
    with path.open("a", buffering=1) as writer, path.open() as reader:
        is_over = False

        def wait() -> None:
            nonlocal is_over
            for step in next(steps, []):
                writer.write(json.dumps(record(step).to_dict()) + "\n")
                is_over = step == 5
            if is_over and ends_well:
                writer.write(json.dumps(END) + "\n")

        assert follow(Tail(reader), sent.extend, is_over=lambda: is_over, wait=wait) == ends_well
    assert sent == [point for step in range(1, 6) for point in points_of(record(step))]
    assert {name for name, _, _ in sent} >= {"loss_nats", "grad_norm", "tokens_per_second", "bpb"}


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
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
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


def asked(url: str, path: str, **question: Any) -> Any:
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/{path}", headers={"Content-Type": "application/json"})
    if question:
        request.data = json.dumps(question).encode()
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_real_server_shows_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in two halves is one run there."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("pipeline.live.CURVES_SECONDS", 120.0)
    scratch = tmp_path / "the-run-key"
    scratch.mkdir()
    with mlflow_server(tmp_path) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        for part in (range(1, 4), range(4, 6)):
            with Live("pretrain", scratch) as live:
                for step in part:
                    live.on_step(record(step))
        experiment = asked(url, f"experiments/get-by-name?experiment_name={EXPERIMENT}")["experiment"]
        (run,) = asked(url, "runs/search", experiment_ids=[experiment["experiment_id"]])["runs"]
        assert (run["info"]["status"], run["info"]["run_name"]) == ("FINISHED", "pretrain")
        history = asked(url, f"metrics/get-history?run_id={run['info']['run_id']}&metric_key=loss_nats")["metrics"]
    assert {int(point["step"]): point["value"] for point in history} == {step: 1 / step for step in range(1, 6)}


@pytest.mark.slow
def test_a_server_that_is_away_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr("pipeline.live.CURVES_SECONDS", 120.0)
    with Live("pretrain", tmp_path) as live:
        live.on_step(record(1))
    assert "pretrain: no live curves in MLflow" in capfd.readouterr().err
    assert len((tmp_path / "steps.jsonl").read_text().splitlines()) == 2


def test_a_folder_of_mlflow_is_no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setattr(subprocess, "Popen", lambda *args, **options: pytest.fail("started"))
    with Live("pretrain", tmp_path) as live:
        live.on_step(record(1))

"""The service as its users run it: it starts, answers, drains without cutting a stream, survives kills, and says what is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from model.tokenizer.tokenizer import SPECIAL_TOKENS, Tokenizer
from service.policy.policy_files import DEFAULTS
from tests.assistant.conftest import save_random_model
from tests.assistant.conftest import tokenizer as tokenizer
from tests.conftest import ROOT
from tests.service.processes.running_service import RunningService, run_service

N_STREAMS = 16
NEVER_ENDS = {str(index): -100 for index in range(len(SPECIAL_TOKENS))}  # the special tokens, which end an answer
N_TOKENS = 3_000  # a second or more of the tiny model, so that the signal comes in the middle


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    return save_random_model(tmp_path_factory.mktemp("served"), tokenizer, phase="sft", seq_len=4096)


@pytest.fixture
def service(model: Path, tmp_path: Path) -> Generator[RunningService]:
    with run_service(model, tmp_path / "state") as running:
        yield running


def read_events(lines: list[str]) -> tuple[str, str | None, bool]:
    """Return the text of a stream, why it ended, and whether it ended whole."""
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    reasons = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    return text, reasons[-1] if reasons else None, "data: [DONE]" in lines


async def stream(client: httpx.AsyncClient, url: str, seed: int, started: asyncio.Event | None = None) -> list[str]:
    body = {
        "model": "minigpt/direct",
        "messages": [{"role": "user", "content": f"Count {seed}"}],
        "stream": True,
        "seed": seed,
        "temperature": 1.0,
        "max_tokens": N_TOKENS,
        "logit_bias": NEVER_ENDS,
    }
    text = ""
    async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
        async for piece in answer.aiter_text():
            text += piece
            if started is not None and text.count("\n\n") > 3:
                started.set()
    return text.split("\n")


@pytest.mark.slow
def test_sigterm_lets_sixteen_streams_end_whole(service: RunningService) -> None:
    """They are those that an undisturbed service gives; readiness turns at once, new requests are refused, the exit code is 0."""

    async def run() -> tuple[list[list[str]], list[list[str]], int, int]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(timeout=120, limits=limits) as client:
            alone = [await stream(client, service.url, seed) for seed in range(2)]
            flags = [asyncio.Event() for _ in range(N_STREAMS)]
            tasks = [asyncio.create_task(stream(client, service.url, seed, flags[seed])) for seed in range(N_STREAMS)]
            await asyncio.gather(*(flag.wait() for flag in flags))
            service.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.05)
            ready = await client.get(f"{service.url}/ready")
            refused = await client.post(
                f"{service.url}/v1/chat/completions",
                json={"model": "minigpt", "messages": [{"role": "user", "content": "hi"}]},
            )
            assert "retry-after" in refused.headers
            return alone, await asyncio.gather(*tasks), ready.status_code, refused.status_code

    alone, streams, ready, refused = asyncio.run(run())
    assert (ready, refused) == (503, 503)
    assert service.process.wait(30) == 0
    ends = [read_events(lines) for lines in streams]
    assert all(is_whole for _, _, is_whole in ends)
    assert {reason for _, reason, _ in ends} == {"length"}
    assert [read_events(lines)[0] for lines in alone] == [text for text, _, _ in ends[:2]]  # in any company the same


@pytest.mark.slow
def test_what_is_too_much_is_refused_at_once_and_the_connection_stays(model: Path, tmp_path: Path) -> None:
    async def run(url: str) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            started = asyncio.Event()
            running = asyncio.create_task(stream(client, url, 1, started))
            await started.wait()
            body = {"model": "minigpt", "messages": [{"role": "user", "content": "hi"}]}
            for content in (
                body,
                body,
                {"padding": "x" * 100_000, **body},
            ):  # in one piece, on one connection, in several pieces
                refused = await client.post(f"{url}/v1/chat/completions", json=content)
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
                assert int(refused.headers["retry-after"]) >= 1
            assert (await client.get(f"{url}/ready")).status_code == 200
            assert read_events(await running)[1:] == ("length", True)
            assert (await client.post(f"{url}/v1/chat/completions", json=body)).status_code == 200

    with run_service(model, tmp_path / "state", "--slots", "1", "--queue", "0") as service:
        asyncio.run(run(service.url))


@pytest.mark.slow
def test_nothing_that_was_answered_is_lost_by_kill_9(model: Path, tmp_path: Path) -> None:
    ids: list[str] = []
    for _ in range(3):
        with run_service(model, tmp_path / "state") as service:
            answers = [service.ask(f"hello {number}", max_tokens=4) for number in range(5)]
            ids += [answer.json()["minigpt"]["request"] for answer in answers]
            service.kill()
    with sqlite3.connect(tmp_path / "state" / "service.sqlite") as connection:
        stored = {row[0] for row in connection.execute("SELECT id FROM journal")}
    connection.close()
    assert set(ids) == stored
    verified = subprocess.run(
        [sys.executable, "-m", "service", "audit", "verify", "--state", str(tmp_path / "state")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.slow
def test_two_services_share_a_state_and_a_second_one_cannot_have_the_port(
    service: RunningService, model: Path, tmp_path: Path
) -> None:
    with run_service(model, tmp_path / "state") as other:
        assert [running.ask("hi", max_tokens=2).status_code for running in (service, other)] == [200, 200]
    port = service.url.rpartition(":")[2]
    command = [
        sys.executable,
        "-m",
        "service",
        "serve",
        "--model",
        str(model),
        "--state",
        str(tmp_path),
        "--port",
        port,
    ]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith(f"error: can't listen on 127.0.0.1 port {port}")
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--host", "0.0.0.0"], "loopback only"),
        (["--slots", "0"], "settings.slots"),
        (["--settings", "missing.yaml"], "can't be read"),
        (["--model", "missing"], "there is no model folder"),
        (["--database", "mysql://x/y"], "database"),
    ],
)
def test_what_is_wrong_is_said_without_a_traceback(model: Path, tmp_path: Path, flags: list[str], message: str) -> None:
    command = [
        sys.executable,
        "-m",
        "service",
        "serve",
        "--model",
        str(model),
        "--state",
        str(tmp_path / "s"),
        "--port",
        "0",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert process.returncode == 1, process.stderr
    assert process.stderr.startswith("error: ")
    assert message in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.slow
def test_an_invalid_policy_of_one_tenant_leaves_the_service_ready(model: Path, tmp_path: Path) -> None:
    """A probe that failed would take the service away from everybody else."""
    policies = tmp_path / "policies"
    shutil.copytree(DEFAULTS, policies)
    (policies / "local").mkdir()
    (policies / "local" / "content.yaml").write_text("limits: 3")
    with run_service(model, tmp_path / "state", "--policies", str(policies)) as running:
        ready = httpx.get(f"{running.url}/ready")
        assert ready.status_code == 200
        assert "see the log" in ready.json()["notices"]["policies"]
        assert "local" not in ready.text
        assert "local/content.yaml: limits" in running.log
        refused = running.ask("hi")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "policy_invalid")
        assert "Traceback" not in running.log
        shutil.rmtree(policies / "local")
        end = time.monotonic() + 30
        while "policies" in httpx.get(f"{running.url}/ready").json()["notices"]:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert running.ask("hi", max_tokens=1).status_code == 200


@pytest.mark.slow
def test_what_is_left_of_a_limit_is_in_the_headers(model: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    command = [sys.executable, "-m", "service", "keys", "add", "--role", "user", "--user", "ada", "--state", str(state)]
    made = subprocess.run(
        [*command, "--requests-per-minute", "5"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    [key] = re.findall(r"mg-\S+", made)
    with (
        run_service(model, state) as service,
        httpx.Client(timeout=60, headers={"Authorization": f"Bearer {key}"}) as client,
    ):
        left: list[str] = []
        for path, body in (
            ("chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
            ("chat/completions", {"messages": [{"role": "user", "content": "hi"}], "stream": True}),
            ("completions", {"prompt": "hi"}),
            ("responses", {"input": "hi"}),
        ):
            answer = client.post(f"{service.url}/v1/{path}", json={"model": "minigpt", **body})
            assert answer.status_code == 200, answer.text
            left.append(answer.headers["x-ratelimit-remaining-requests"])
        assert left == ["4", "3", "2", "1"]

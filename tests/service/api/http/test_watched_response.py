"""A client that leaves is noticed at once, streamed or not; one that is slow is answered and dropped."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from service.api.http import watched_response
from service.api.http.http_protocol import HttpProtocol
from service.api.http.request_limits import RequestLimits
from tests.service.api.scripted_service import RunningServer, ScriptedInference, make_service, run_server

SLOW = [{"role": "user", "content": "slow"}]


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[RunningServer, ScriptedInference]]:
    """Return a server whose model nobody else uses."""
    inference = ScriptedInference()
    with run_server(make_service(inference)) as running:
        yield running, inference


def wait(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def post(body: dict[str, object]) -> bytes:
    data = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    return head.encode() + b"\r\n\r\n" + data


@pytest.mark.parametrize("model", ["minigpt", "minigpt/direct"])
@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("n", [1, 3])
def test_an_answer_ends_with_its_client(
    own: tuple[RunningServer, ScriptedInference], model: str, is_streamed: bool, n: int
) -> None:
    server, inference = own
    wait(lambda: inference.n_running == 0)
    begun = inference.n_steps
    with socket.create_connection(("127.0.0.1", server.port), 10) as client:
        client.sendall(post({"model": model, "messages": SLOW, "stream": is_streamed, "n": n}))
        wait(lambda: inference.n_running == n and inference.n_steps > begun + 3)
    wait(lambda: inference.n_running == 0 and server.service.answering.n_open == 0)
    stopped = inference.n_steps
    time.sleep(0.1)
    assert inference.n_steps == stopped


def test_a_stop_string_of_a_session_ends_what_is_computed(own: tuple[RunningServer, ScriptedInference]) -> None:
    server, inference = own
    body = {"model": "minigpt", "messages": SLOW, "stop": ["re mo"]}
    choice = httpx.post(server.url + "/v1/chat/completions", json=body).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("you said: slow mo", "stop")
    wait(lambda: inference.n_running == 0)


def test_a_silent_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched_response, "KEEP_ALIVE_SECONDS", 0.005)
    with run_server(make_service()) as server:
        body = {"model": "minigpt", "messages": SLOW, "stream": True, "max_tokens": 5}
        with httpx.stream("POST", server.url + "/v1/chat/completions", json=body) as response:
            lines = response.iter_lines()
            seen = [next(lines) for _ in range(60)]
    assert ": keep-alive" in seen
    assert all(line == "" or line.startswith(("data: {", ": keep-alive")) for line in seen)


def test_slow_headers_and_slow_bodies_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpProtocol, "head_seconds", 0.1)
    size, _, *others = RequestLimits.__init__.__defaults__ or ()
    monkeypatch.setattr(RequestLimits.__init__, "__defaults__", (size, 0.1, *others))
    with run_server(make_service()) as server:
        for data in (b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"):
            assert b" 408 " in server.raw(data).partition(b"\r\n")[0]
        head = (
            b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n"
        )
        answer = server.raw(head + b'{"model"')
        assert b" 408 " in answer.partition(b"\r\n")[0]
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "request_timeout"
        with httpx.Client(base_url=server.url) as client:  # a second request of a connection has its own time
            assert client.get("/health").status_code == 200
            time.sleep(0.15)
            assert client.get("/health").status_code == 200


@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_body_that_is_too_large_is_refused_while_it_is_sent(server: RunningServer, is_chunked: bool) -> None:
    data = b'{"model": "' + b"x" * 3_000_000 + b'"}'
    content = (data[i : i + 65_536] for i in range(0, len(data), 65_536)) if is_chunked else data
    headers = {"content-type": "application/json"}
    response = httpx.post(server.url + "/v1/completions", content=content, headers=headers)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"


def test_a_reader_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpProtocol, "send_seconds", 0.2)
    inference = ScriptedInference()
    inference.word = "x" * 100_000
    with run_server(make_service(inference)) as server:
        body = {"model": "minigpt/direct", "messages": SLOW, "stream": True}
        with socket.create_connection(("127.0.0.1", server.port), 10) as client:
            client.sendall(post(body))
            wait(lambda: inference.n_running == 1)
            wait(lambda: inference.n_running == 0)
            wait(lambda: server.service.answering.n_open == 0)


def test_every_write_is_sent_at_once(server: RunningServer) -> None:
    """With Nagle's algorithm and delayed acknowledgments the second write of an answer takes 40 ms."""
    times: list[float] = []
    with httpx.Client(base_url=server.url) as client:
        for _ in range(20):
            begun = time.perf_counter()
            assert client.get("/health").status_code == 200
            times.append(time.perf_counter() - begun)
    assert min(times) < 0.03


def test_requests_one_after_another_in_one_packet(server: RunningServer) -> None:
    request = b"GET /health HTTP/1.1\r\nHost: x\r\n"
    answer = server.raw(request + b"\r\n" + request + b"Connection: close\r\n\r\n")
    assert answer.count(b'{"status":"ok"}') == 2

"""Which server a run uses and which keys it sends, without starting one."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from flows.processes import server
from flows.processes.credentials import make_basic, read_key

TEAM = "https://prefect.team.example/api"


class Healthy(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def healthy() -> Iterator[str]:
    """Serve 200 to every request; yield the address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as each:
        threading.Thread(target=each.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{each.server_address[1]}"
        each.shutdown()


def configure(root: Path, **environment: str) -> tuple[str, dict[str, str]]:
    """Return the URL of the server that a run would use ("": a temporary one), and Prefect's variables."""
    with mock.patch.dict(os.environ, environment, clear=True):
        url = server.configure_client(root)
        return url, {name: value for name, value in os.environ.items() if name.startswith("PREFECT_")}


def test_a_temporary_server_gets_our_key_and_no_other(tmp_path: Path) -> None:
    url, settings = configure(
        tmp_path, PREFECT_API_KEY="of the cloud", PREFECT_API_AUTH_STRING="user:of another server"
    )
    assert url == ""
    assert settings["PREFECT_API_AUTH_STRING"] == make_basic(read_key(tmp_path, "prefect"))
    assert "PREFECT_API_KEY" not in settings


def test_the_server_of_somebody_else_gets_the_keys_of_the_environment_alone(tmp_path: Path) -> None:
    url, settings = configure(tmp_path, PREFECT_API_URL=TEAM, PREFECT_API_KEY="of the team")
    assert (url, settings["PREFECT_API_KEY"]) == (TEAM, "of the team")
    assert "PREFECT_API_AUTH_STRING" not in settings
    assert "PREFECT_HOME" not in settings
    assert not (tmp_path / "var/keys").exists()


def test_the_server_of_make_ui_is_used_while_it_runs(tmp_path: Path, healthy: str) -> None:
    with server.announce(tmp_path) as write:
        assert configure(tmp_path)[0] == ""  # it is still starting
        write({"prefect": healthy, "mlflow": healthy})
        for given in ({}, {"PREFECT_API_URL": f"{healthy}/api"}, {"PREFECT_API_URL": f"{healthy}/api/"}):
            url, settings = configure(tmp_path, **given)
            assert (url, settings["PREFECT_API_URL"]) == (f"{healthy}/api", f"{healthy}/api")
            assert settings["PREFECT_API_AUTH_STRING"] == make_basic(read_key(tmp_path, "prefect"))
        with pytest.raises(server.ServerError, match="another `make ui` is starting"), server.announce(tmp_path):
            pass
    assert server.read_running(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"prefect": 1}', '{"prefect": "http://127.0.0.1:1"}', None])
def test_a_file_that_a_killed_make_ui_left_is_not_believed(tmp_path: Path, healthy: str, text: str | None) -> None:
    """Its port may be another program's by now, which would be sent the key."""
    path = tmp_path / server.RUNNING
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"prefect": healthy, "mlflow": healthy}) if text is None else text)
    assert server.read_running(tmp_path) == {}
    assert configure(tmp_path)[0] == ""
    with server.announce(tmp_path):
        pass


def test_stages_get_no_key_but_that_of_our_own_mlflow_server(tmp_path: Path, healthy: str) -> None:
    base = {"PATH": "/bin", "PREFECT_API_AUTH_STRING": "a:b", "PREFECT_API_KEY": "c", "MLFLOW_TRACKING_URI": healthy}
    assert server.make_environment_of_stages(tmp_path, base) == {"PATH": "/bin", "MLFLOW_TRACKING_URI": healthy}
    with server.announce(tmp_path) as write:
        write({"mlflow": healthy})
        environment = server.make_environment_of_stages(tmp_path, base)
        assert environment["MLFLOW_TRACKING_PASSWORD"] == read_key(tmp_path, "mlflow")
        for other in ({"MLFLOW_TRACKING_URI": "https://team.example"}, {"MLFLOW_TRACKING_TOKEN": "own"}):
            assert "MLFLOW_TRACKING_PASSWORD" not in server.make_environment_of_stages(tmp_path, base | other)


def test_a_lost_server_is_noticed(healthy: str) -> None:
    assert server.find_loss(None, healthy) == ""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/api/health"
        assert server.find_loss(None, url) == f"no answer from {url}"
    ended = mock.Mock(poll=lambda: -9, returncode=-9)
    assert server.find_loss(ended, healthy) == "its process ended with code -9"


def test_while_it_waits_the_reason_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "NOTICE_SECONDS", 0.1)
    (tmp_path / "log").write_text("one\ntwo\n")
    texts: list[str] = []
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(server.ServerError, match=r"found: no answer for 1 s\n    one\n    two\n  to do: read "):
            server.wait_until_healthy(url, tmp_path / "log", None, texts.append, 0.6)
    assert time.monotonic() - started < 5
    assert 1 <= len(texts) <= 4
    assert all("no answer for" in text and "http" not in text for text in texts)


def test_a_port_that_is_taken_is_not_chosen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert server.find_free_port(port) != port
    with contextlib.closing(socket.socket()) as again:
        again.bind(("127.0.0.1", server.find_free_port()))

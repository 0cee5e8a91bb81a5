"""Requests to our servers: only those with the right host, origin and key arrive at the application."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from flows.processes.access import POLICIES, Access, Message

PORT, KEY = 4200, "k" * 43
HOST = f"127.0.0.1:{PORT}"
OWN, FOREIGN = f"http://{HOST}", "http://evil.example"
API = {
    "prefect": "/api/work_pools/filter",
    "mlflow": "/ajax-api/2.0/mlflow/experiments/search",
    "invocations": "/invocations",
}


def basic(key: str = KEY, user: str = "minigpt") -> str:
    return f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"


def request(
    server: str, method: str, path: str, *, kind: str = "http", **headers: str | list[str]
) -> tuple[int, dict[str, str], bool]:
    """Send a request; return status, headers and whether the application saw it. `host` and the right key are the default."""
    wanted = {"host": HOST, "authorization": basic()} | headers
    pairs = [
        (name.replace("_", "-").encode(), value.encode())
        for name, values in wanted.items()
        for value in ([values] if isinstance(values, str) else values)
        if value
    ]
    scope = {"type": kind, "path": path, "headers": pairs} | ({"method": method} if kind == "http" else {})
    sent: list[Message] = []
    seen: list[Any] = []

    async def application(scope: Message, _receive: Any, send: Any) -> None:
        seen.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    asyncio.run(Access(application, POLICIES[server], KEY, PORT)(scope, receive, send))
    first = sent[0]
    answered = {name.decode(): value.decode() for name, value in first.get("headers", [])}
    return first.get("status", first.get("code", 0)), answered, bool(seen)


@pytest.mark.parametrize("server", API)
@pytest.mark.parametrize("scheme", [basic(), f"Bearer {KEY}", f"bearer {KEY}"])
def test_the_key_opens_the_application(server: str, scheme: str) -> None:
    status, headers, is_seen = request(
        server, "POST", API[server], authorization=scheme, origin=OWN, sec_fetch_site="same-origin"
    )
    assert (status, is_seen) == (200, True)
    assert headers["content-security-policy"] == "frame-ancestors 'self'"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("server", API)
@pytest.mark.parametrize(
    "authorization",
    [
        "",
        basic("wrong"),
        basic(user="admin"),
        f"Bearer {KEY}x",
        "Bearer ",
        "Basic !!!",
        KEY,
        [f"Bearer {KEY}", "Bearer x"],
        "Bearer ü",
    ],
)
def test_without_the_key_nothing_opens(server: str, authorization: str) -> None:
    status, headers, is_seen = request(server, "POST", API[server], authorization=authorization)
    assert (status, is_seen) == (401, False)
    assert headers["www-authenticate"].startswith("Basic" if server == "mlflow" else "Bearer")


@pytest.mark.parametrize("server", API)
@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": f"evil.example:{PORT}"},  # DNS rebinding
        {"host": "127.0.0.1"},
        {"host": f"127.0.0.1:{PORT + 1}"},
        {"host": ""},
        {"host": [HOST, "evil.example"]},
        {"origin": FOREIGN},
        {"origin": "null"},  # a sandboxed frame, a file
        {"origin": f"http://127.0.0.1:{PORT + 1}"},  # another server on this machine
        {"origin": f"http://localhost:{PORT}"},  # ours, but under the other name
        {"origin": f"https://{HOST}"},
        {"origin": [OWN, FOREIGN]},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "image"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors", "sec_fetch_dest": "script"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
        {
            "sec_fetch_site": "cross-site",
            "sec_fetch_mode": "navigate",
            "sec_fetch_dest": "document",
        },  # a link to the API
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_foreign_page_is_refused_even_with_the_key(server: str, method: str, headers: dict[str, str]) -> None:
    """A browser sends the basic authentication that it knows whoever asks; so the key alone does not protect from other pages."""
    status, answered, is_seen = request(server, method, API[server], **headers)
    assert (status, is_seen) == (403, False)
    assert "access-control-allow-origin" not in answered


@pytest.mark.parametrize("server", ["prefect", "mlflow"])
def test_a_link_of_another_site_opens_the_page_but_no_form_does(server: str) -> None:
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert request(server, "GET", "/", **link)[2]
    assert request(server, "POST", "/", **link)[::2] == (403, False)


def test_health_and_the_code_of_pages_need_no_key() -> None:
    for server, path in (
        ("prefect", "/api/health"),
        ("mlflow", "/health"),
        ("invocations", "/ping"),
        ("prefect", "/assets/index.js"),
    ):
        assert request(server, "GET", path, authorization="")[2]
        assert request(server, "GET", path, authorization="", host="evil.example")[::2] == (403, False)
    for path in ("/api", "/api/healthy", "/api/admin/version", "/api/x/health"):
        assert request("prefect", "GET", path, authorization="")[::2] == (401, False)
    assert request("prefect", "POST", "/api/health", authorization="")[::2] == (401, False)


def test_web_sockets_are_opened_only_where_the_application_asks_for_the_key() -> None:
    assert request("prefect", "", "/api/events/out", kind="websocket", authorization="")[2]
    for headers in ({"origin": FOREIGN}, {"host": "evil.example"}, {"sec_fetch_site": "cross-site"}):
        assert request("prefect", "", "/api/events/out", kind="websocket", **headers)[::2] == (1008, False)
    assert request("mlflow", "", "/ws", kind="websocket", authorization="")[::2] == (1008, False)


def test_the_login_page_has_no_key_and_can_not_be_framed() -> None:
    status, headers, is_seen = request("prefect", "GET", "/open", authorization="")
    assert (status, is_seen, headers["cache-control"]) == (200, False, "no-store")
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert request("invocations", "GET", "/open", authorization="")[::2] == (401, False)

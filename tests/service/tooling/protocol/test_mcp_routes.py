"""Our tools over streamable HTTP: behind keys, by tenant, decided call by call, whatever is sent."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Request
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

from assistant.tools.tool_registry import ToolRegistry, describe_builtins
from service.access.caller import Caller
from service.api.http.error_responses import install_errors
from service.service_error import ServiceError
from service.tooling.guarded_tools import GuardedTools, ToolGuard, ToolUse
from service.tooling.protocol.approved_tools import ApprovedTools
from service.tooling.protocol.mcp_client import LoopThread, McpConnection
from service.tooling.protocol.mcp_routes import make_router
from service.tooling.protocol.mcp_setting import McpSetting
from tests.service.tooling.test_guarded_tools import BREAK, SEND, AllowAll, Passages

KEYS = {"one": Caller("acme", "ada", "key_1"), "two": Caller("other", "bob", "key_2")}
HEADERS = {"accept": "application/json, text/event-stream", "authorization": "Bearer one"}


class OnlyThree:
    """Admits three requests of bob."""

    def __init__(self) -> None:
        self.n_admitted = 0

    @asynccontextmanager
    async def admit(self, caller: Caller, n_reserved_tokens: int) -> AsyncGenerator[Any]:
        self.n_admitted += caller.user == "bob"
        if self.n_admitted > 3:
            raise ServiceError(429, "too many requests; found 4; wait.", retry_after=1)
        yield None


class Endpoint:
    """A server with the route alone."""

    def __init__(self) -> None:
        self.uses: list[ToolUse] = []
        app = FastAPI()
        app.state.service = SimpleNamespace(extras={"authenticate": self.authenticate})
        app.include_router(make_router("1", self.get_tools, OnlyThree()))
        install_errors(app)
        config = uvicorn.Config(app, port=0, log_level="error", ws="none", lifespan="on")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        end = time.monotonic() + 30
        while not self.server.started:
            assert time.monotonic() < end
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/mcp"

    async def authenticate(self, request: Request) -> Caller:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        if key not in KEYS:
            raise ServiceError(401, "the key is unknown; found none of ours; get one.")
        return KEYS[key]

    def get_tools(self, caller: Caller) -> GuardedTools:
        registry = ToolRegistry([*describe_builtins(), SEND, BREAK])
        guard = ToolGuard(caller, AllowAll(), report=self.uses.append)
        return GuardedTools(registry, Passages(("", f"Secret of {caller.tenant}.")), guard)

    def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", **HEADERS, **headers}
        return httpx.post(self.url, content=content, headers=sent, timeout=30)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    opened = Endpoint()
    yield opened
    opened.server.should_exit = True
    opened.thread.join(20)
    assert not opened.thread.is_alive()


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def call(endpoint: Endpoint, name: str, arguments: Any, **headers: str) -> Any:
    return endpoint.post(request("tools/call", name=name, arguments=arguments), **headers).json()["result"]


def test_the_librarys_client_lists_and_calls(endpoint: Endpoint) -> None:
    async def use() -> tuple[dict[str, Any], str]:
        async with (
            create_mcp_http_client(headers={"authorization": "Bearer one"}) as http,
            Client(streamable_http_client(endpoint.url, http_client=http)) as client,
        ):
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            result = await client.call_tool("calculator", {"expression": "12 * 7"})
            return tools, getattr(result.content[0], "text", "")

    tools, text = asyncio.run(use())
    assert text == "84"
    assert list(tools) == sorted(tools)
    assert tools.keys() >= {"calculator", "search_docs", "send"}
    assert tools["calculator"].input_schema["required"] == ["expression"]
    assert tools["calculator"].annotations.read_only_hint
    assert tools["send"].annotations.destructive_hint


def test_a_service_uses_the_tools_of_another_by_its_address(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_SERVICE_KEY", "one")
    loop = LoopThread()
    approved = ApprovedTools(None)
    connections = [
        McpConnection("other", McpSetting(url=endpoint.url, token=token), approved, loop, tenant)
        for tenant, token in (("acme", "OTHER_SERVICE_KEY"), ("nobody", ""))
    ]
    try:
        tools = {each.name: each for each in connections[0].declare()}
        assert tools["other__calculator"].call({"expression": "12 * 7"}, 10.0) == "84"
        assert connections[1].declare() == []
        assert connections[1].problem.startswith("the MCP server other ")
    finally:
        for connection in connections:
            connection.close()
        loop.close()


def test_search_is_over_the_callers_documents(endpoint: Endpoint) -> None:
    assert call(endpoint, "search_docs", {"query": "secret"})["content"][0]["text"] == "[T] Secret of acme."
    other = call(endpoint, "search_docs", {"query": "secret"}, authorization="Bearer two")
    assert other["content"][0]["text"] == "[T] Secret of other."


def test_without_a_key_nothing_is_said(endpoint: Endpoint) -> None:
    for headers in ({"authorization": ""}, {"authorization": "Bearer three"}):
        reply = endpoint.post(request("tools/list"), **headers)
        assert reply.status_code == 401
        assert reply.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("rm", {}, "error: there is no tool 'rm'"),
        ("calculator", {"expression": 7}, "error: calculator.expression: Input should be a valid string; found 7"),
        ("calculator", {}, "error: calculator.expression: Field required"),
        ("search_docs", {"q": "x"}, "error: search_docs takes one text named query; found q."),
        ("search_docs", {"query": ["x"]}, "error: search_docs takes one text named query"),
        ("break_down", {"text": "x"}, "error: break_down failed (RuntimeError)"),
    ],
)
def test_errors_are_results(endpoint: Endpoint, name: str, arguments: Any, message: str) -> None:
    result = call(endpoint, name, arguments)
    assert result["isError"] is True
    assert result["content"][0]["text"].startswith(message)


def test_every_call_is_reported_with_who_decided(endpoint: Endpoint) -> None:
    call(endpoint, "send", {"text": "x"})
    use = endpoint.uses[-1]
    assert (use.caller, use.tool, use.verdict, use.decided_by) == (KEYS["one"], "send", "ran", ("allow-all",))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"jsonrpc": "2.0"}',
        b"[" * 5_000,
        b'{"jsonrpc":"2.0","id":1,"method":"x"}',
        b"x" * 2_000_000,
    ],
)
def test_what_is_no_request_is_refused_and_not_a_failure(endpoint: Endpoint, body: bytes) -> None:
    reply = endpoint.post(body)
    assert reply.status_code < 500
    assert "error" in reply.json() if reply.status_code == 200 else reply.status_code in (400, 404, 413)
    assert call(endpoint, "calculator", {"expression": "1 + 1"})["content"][0]["text"] == "2"


def test_other_methods_are_refused(endpoint: Endpoint) -> None:
    for method in ("GET", "DELETE", "PUT"):
        assert httpx.request(method, endpoint.url, headers=HEADERS).status_code == 405


def test_requests_are_counted(endpoint: Endpoint) -> None:
    statuses = [endpoint.post(request("tools/list"), authorization="Bearer two").status_code for _ in range(5)]
    assert statuses[-1] == 429

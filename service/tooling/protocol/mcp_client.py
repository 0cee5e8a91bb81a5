"""Use the tools of an MCP server: a command that we start, or an address.

In: a setting, and the definitions that were approved. Out: declarations named SERVER__TOOL, whose calls go to the server. All
servers share one event loop in a thread of its own; a connection is made by the first call, and again when the server has died.
Before each call the server is asked for its definitions: that tells whether it lives, and whether it has changed them.

Covers: time limits; names and schemas are checked; only approved definitions are called (approved_tools.py); a command gets the few
variables of the environment that a program needs, and those that the setting names; results are text, bounded, untrusted. Does not
cover: what the server does with what it is sent; descriptions are shown to people only, never put into a prompt.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from threading import Thread
from typing import Any, TypeVar

from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client  # pyright: ignore[reportPrivateUsage]

from assistant.tools.tool_declaration import NAME, Effect, ToolDeclaration, ToolLimits
from service.tooling.protocol.approved_tools import MAX_TOOLS, ApprovedTools, ForeignTool, check_foreign_tool
from service.tooling.protocol.mcp_setting import McpSetting

CONNECT_SECONDS = 15.0
RETRY_SECONDS = 1.0  # between two tries to start a server
ALIVE_SECONDS = 5.0  # a server that lists no tools in that time is started again
MAX_RESULT_CHARS = 100_000
MAX_DESCRIPTION_CHARS = 300

Result = TypeVar("Result")


class ServerFailureError(ValueError):
    """A server does not answer; the message says so."""


class LoopThread:
    """An event loop in a thread, for calls from other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="mcp", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Result], seconds: float) -> Result:
        """Run a coroutine and return its result. Raises: TimeoutError after the seconds; then it is cancelled."""
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, seconds), self._loop)
        return future.result(seconds + ALIVE_SECONDS)  # also where the loop has ended meanwhile

    def close(self) -> None:
        """Stop the loop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive():
            self._loop.close()


class McpConnection:
    """One server. `key` names it in the file of approved tools. `problem` says what is wrong with it (empty: nothing known)."""

    def __init__(
        self, name: str, setting: McpSetting, approved: ApprovedTools, loop: LoopThread, tenant: str = ""
    ) -> None:
        self.name, self.setting, self.tenant, self.key = name, setting, tenant, f"{tenant}/{name}"
        self.problem = ""
        self._approved, self._loop = approved, loop
        self._client: Client | None = None
        self._stop: asyncio.Event | None = None
        self._lock = asyncio.Lock()
        self._changed: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._tried = float("-inf")

    def declare(self) -> list[ToolDeclaration]:
        """Return the approved tools.

        A server that was never seen is asked for them, and they are approved as they are: the operator has named it. Where it does
        not answer, there are none, and `problem` says why.
        """
        if self._approved.get(self.key) is None:
            try:
                self._approved.approve(self.key, self.list_tools())
            except ValueError as error:
                self.problem = str(error)
        found = [self._declare(tool) for tool in self._approved.get(self.key) or [] if self._is_wanted(tool.name)]
        return list({each.name: each for each in found}.values())

    def list_tools(self) -> list[ForeignTool]:
        """Return the server's present definitions. Raises: ValueError if it does not answer or defines what we don't call."""
        return self._ask(self._list_now(), CONNECT_SECONDS)

    def check(self) -> None:
        """Connect and compare the definitions; what is wrong is in `problem`. Raises: ValueError if the server does not answer."""
        self._ask(self._connect(), CONNECT_SECONDS)

    def approve(self) -> list[ForeignTool]:
        """Approve the server's present definitions and return them."""
        tools = self.list_tools()
        self._approved.approve(self.key, tools)
        self._compare(tools)
        return tools

    def call(self, tool: str, arguments: Mapping[str, Any], max_seconds: float) -> str:
        """Return the text of a call. Raises: ValueError for an error, a limit, or a definition that has changed."""
        return self._ask(self._call(tool, arguments), min(max_seconds, self.setting.max_seconds))

    def close(self) -> None:
        """End the connection, and the command."""
        try:
            self._loop.run(self._disconnect(), 2 * ALIVE_SECONDS)
        except TimeoutError:
            return

    def _is_wanted(self, tool: str) -> bool:
        return bool(_make_name(self.name, tool)) and (not self.setting.tools or tool in self.setting.tools)

    def _declare(self, tool: ForeignTool) -> ToolDeclaration:
        effects: frozenset[Effect] = frozenset(self.setting.effects)
        words = " ".join(re.sub(r"[^\x20-\x7e\xa0-\uffff]", " ", tool.description).split())[:MAX_DESCRIPTION_CHARS]
        return ToolDeclaration(
            _make_name(self.name, tool.name),
            f"The MCP server {self.name} says: {words}",
            tool.schema,
            lambda arguments, seconds: self.call(tool.name, arguments, seconds),
            effects,
            ToolLimits(self.setting.max_seconds),
            is_trusted=False,
            origin=f"the MCP server {self.name}",
        )

    def _ask(self, work: Coroutine[Any, Any, Result], seconds: float) -> Result:
        try:
            return self._loop.run(work, seconds)
        except TimeoutError as error:
            raise ValueError(f"the MCP server {self.name} took longer than {seconds:g} seconds; try later.") from error

    async def _call(self, tool: str, arguments: Mapping[str, Any]) -> str:
        client = await self._connect()
        if tool in self._changed:
            raise ValueError(
                f"{_make_name(self.name, tool)} has changed since it was approved; found another definition; its operator "
                f"may approve it: python -m service tools approve {self.name}."
            )
        try:
            result = await client.call_tool(tool, dict(arguments))
        except Exception as error:  # the library raises its own and its transports' errors
            raise ValueError(f"the MCP server {self.name} failed; found {_name_error(error)}; try later.") from error
        parts = [getattr(part, "text", None) or f"({part.type}, left out)" for part in result.content]
        text = "\n".join(parts)[:MAX_RESULT_CHARS]
        if result.is_error:
            raise ValueError(f"the MCP server {self.name} says: {text[:300]}")
        return text

    async def _list_now(self) -> list[ForeignTool]:
        async with self._lock:
            return await self._list_anew()

    async def _connect(self) -> Client:
        """Return a connection that answers, made anew if it must be, after a look at the definitions."""
        async with self._lock:
            self._compare(await self._list_anew())
            assert self._client is not None
            return self._client

    async def _list_anew(self) -> list[ForeignTool]:
        """Return the present definitions; a server that does not answer is started again, once."""
        if self._client is not None:
            try:
                return await asyncio.wait_for(self._list(self._client), ALIVE_SECONDS)
            except (ServerFailureError, TimeoutError):
                await self._disconnect()
        return await self._list(await self._open())

    async def _open(self) -> Client:
        if (wait := self._tried + RETRY_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        self._tried = time.monotonic()
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._hold(ready, self._stop))
        try:
            self._client = await asyncio.wait_for(ready, CONNECT_SECONDS)
        except asyncio.CancelledError:
            await self._disconnect()
            raise
        except Exception as error:
            await self._disconnect()
            self.problem = f"the MCP server {self.name} does not start; found {_name_error(error)}; check its setting."
            raise ValueError(self.problem) from error
        self.problem = ""
        return self._client

    async def _hold(self, ready: asyncio.Future[Client], stop: asyncio.Event) -> None:
        """Keep a connection open in a task of its own, as the library asks for."""
        try:
            async with AsyncExitStack() as stack:
                transport = await self._make_transport(stack)
                client = Client(transport, read_timeout_seconds=self.setting.max_seconds, cache=None)
                await stack.enter_async_context(client)
                if not ready.done():
                    ready.set_result(client)
                await stop.wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(error)

    async def _make_transport(self, stack: AsyncExitStack) -> Any:
        setting = self.setting
        if setting.command:
            environment = {name: os.environ[name] for name in setting.environment if name in os.environ}
            return StdioServerParameters(command=setting.command[0], args=setting.command[1:], env=environment)
        token = os.environ.get(setting.token, "") if setting.token else ""
        headers = {"authorization": f"Bearer {token}"} if token else None
        http = await stack.enter_async_context(create_mcp_http_client(headers=headers))
        return streamable_http_client(setting.url, http_client=http)

    async def _disconnect(self) -> None:
        """End the connection, and wait until its command has ended."""
        stop, task = self._stop, self._task
        self._client = self._stop = self._task = None
        if stop is not None and task is not None:
            stop.set()
            done, _ = await asyncio.wait([task], timeout=ALIVE_SECONDS)
            if not done:
                task.cancel()

    async def _list(self, client: Client) -> list[ForeignTool]:
        tools: list[ForeignTool] = []
        cursor: str | None = None
        try:
            while True:
                page = await client.list_tools(cursor=cursor)
                tools += [check_foreign_tool(each.name, each.description, each.input_schema) for each in page.tools]
                cursor = page.next_cursor
                if not cursor or len(tools) > MAX_TOOLS:
                    break
        except ValueError:
            raise
        except Exception as error:
            raise ServerFailureError(
                f"the MCP server {self.name} lists no tools; found {_name_error(error)}; check it."
            ) from error
        if len(tools) > MAX_TOOLS:
            raise ValueError(
                f"the MCP server {self.name} has too many tools; found more than {MAX_TOOLS}; name others."
            )
        return tools

    def _compare(self, tools: list[ForeignTool]) -> None:
        """Find the approved tools whose definition is another one now."""
        present = {tool.name: tool.fingerprint for tool in tools}
        approved = self._approved.get(self.key) or []
        self._changed = {tool.name for tool in approved if present.get(tool.name) != tool.fingerprint}
        new = sorted(present.keys() - {tool.name for tool in approved})
        parts = [f"{len(self._changed)} have changed"] if self._changed else []
        parts += [f"{len(new)} are new"] if new else []
        self.problem = f"tools are not approved: {' and '.join(parts)}" if parts else ""


def _make_name(server: str, tool: str) -> str:
    """Return the name that a foreign tool has here; empty if it can have none."""
    name = f"{server}__{re.sub(r'[^a-z0-9]+', '_', tool.lower()).strip('_')}"
    return name if NAME.fullmatch(name) and not name.endswith("__") else ""


def _name_error(error: BaseException) -> str:
    """Return the kind of an error and not its message, which another server may have written."""
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        return _name_error(error.exceptions[0])
    return type(error).__name__

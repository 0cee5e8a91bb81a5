"""Use the tools of a Python file that run in a process of their own: started when first used, killed when a call takes too long.

In: the path of a file whose functions are marked with `@tool`. Out: their declarations, whose calls go to that process, one at a
time.
The file is never imported here: what it does at import, its crashes and its memory stay there.

Covers: time (kill, then a new process for the next call), memory (tool_worker.py), crashes, output that is no answer. The process
gets this one's environment, but no variable that begins with MINIGPT_. Does not cover: what the file may do with the rights of
its operator.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any, cast

from assistant.tools.tool_declaration import Effect, ToolDeclaration, ToolLimits

START_SECONDS = 30.0
MAX_ANSWER_BYTES = 4_000_000
ROOT = Path(__file__).resolve().parents[2]


class ToolFailureError(RuntimeError):
    """A tool's process did not answer; the message says why."""


class ToolProcess:
    """The process of one file of tools. Thread-safe; calls wait for each other, and waiting counts as their time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def describe(self) -> list[ToolDeclaration]:
        """Return the tools of the file. Raises: ValueError if it can't be imported or declares none."""
        try:
            reply = self._ask({"describe": True}, START_SECONDS)
        except ToolFailureError as error:
            raise ValueError(f"tools: {self.path.name} can't be imported; found {error}; correct it.") from error
        if "error" in reply:
            raise ValueError(str(reply["error"]))
        return [self._declare(row) for row in cast("list[dict[str, Any]]", reply["tools"])]

    def call(self, name: str, arguments: Mapping[str, Any], max_seconds: float, max_memory_mb: int) -> str:
        """Return a tool's text. Raises: ValueError with what the tool says is wrong, and for a limit that it reaches."""
        request = {"name": name, "arguments": dict(arguments), "max_memory_mb": max_memory_mb}
        try:
            reply = self._ask(request, max_seconds)
        except ToolFailureError as error:
            raise ValueError(f"{name} {error}") from error
        if "error" in reply:
            raise ValueError(str(reply["error"]))
        return str(reply["text"])

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _declare(self, row: Mapping[str, Any]) -> ToolDeclaration:
        name, limits = str(row["name"]), ToolLimits(float(row["max_seconds"]), int(row["max_memory_mb"]))

        def call(values: Mapping[str, Any], max_seconds: float) -> str:
            return self.call(name, values, min(max_seconds, limits.max_seconds), limits.max_memory_mb)

        effects = frozenset(cast("list[Effect]", row["effects"]))
        return ToolDeclaration(
            name,
            str(row["description"]),
            row["parameters"],
            call,
            effects,
            limits,
            bool(row["is_trusted"]),
            f"the file {self.path.name}",
        )

    def _ask(self, request: Mapping[str, Any], max_seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + max_seconds
        if not self._lock.acquire(timeout=max(max_seconds, 0.0)):
            raise ToolFailureError(f"took longer than {max_seconds:g} seconds, waiting for another call")
        try:
            return self._ask_locked(json.dumps(request).encode() + b"\n", deadline, max_seconds)
        except BaseException:
            self._kill()  # its next answer would belong to this request
            raise
        finally:
            self._lock.release()

    def _ask_locked(self, request: bytes, deadline: float, max_seconds: float) -> dict[str, Any]:
        process = self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request)
            process.stdin.flush()
            line = _read_line(process.stdout.fileno(), deadline)
        except (BrokenPipeError, ConnectionResetError):
            line = b""
        if line is None:
            raise ToolFailureError(f"took longer than {max_seconds:g} seconds")
        try:
            return cast("dict[str, Any]", json.loads(line))
        except ValueError:
            raise ToolFailureError(f"failed: its process {_describe_end(process)}") from None

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._kill()
            environment = {name: value for name, value in os.environ.items() if not name.startswith("MINIGPT_")}
            environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
            self._process = subprocess.Popen(
                [sys.executable, "-m", "assistant.tools.tool_worker", str(self.path.resolve())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        return self._process

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # what was not written yet
                    continue


def _describe_end(process: subprocess.Popen[bytes]) -> str:
    try:
        return f"ended ({process.wait(timeout=1.0)})"
    except subprocess.TimeoutExpired:
        return "did not answer"


def _read_line(descriptor: int, deadline: float) -> bytes | None:
    """Return one line, an incomplete one at the end of the stream; None after the deadline. Raises: ToolFailureError."""
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return None
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                break
            line += chunk
            if len(line) > MAX_ANSWER_BYTES:
                raise ToolFailureError(f"failed: its result has more than {MAX_ANSWER_BYTES:,} bytes")
    return line

"""python -m assistant.tools.tool_worker FILE: run the tools of one Python file, apart from the process that asks for them.

In: JSON lines on standard input: {"describe": true}, or {"name", "arguments", "max_memory_mb"}. Out: one JSON line for each, on
what was standard output: {"tools": […]}, {"text"}, or {"error"}. What a tool prints goes to standard error.

Covers: memory of a call (beyond what the process had before it, on Linux); it ends with the process that started it. Time is
bounded there (tool_process.py), by killing this one. Does not cover: what a file of tools does with the rights of its operator.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import ModuleType
from typing import Any, TextIO, cast

from assistant.tools.tool_declaration import ToolDeclaration, get_declaration

MAX_ERROR_CHARS = 300


def load_tools(path: Path) -> dict[str, ToolDeclaration]:
    """Import a file and return its declared tools by name. Raises: ValueError if it can't be imported or declares none."""
    specification = importlib.util.spec_from_file_location(f"minigpt_tools_{path.stem}", path)
    if specification is None or specification.loader is None:
        raise ValueError(f"tools: {path.name} is no Python file; found {path.suffix or 'no ending'}; name a .py file.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # annotations are looked up there
    try:
        specification.loader.exec_module(module)
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}"[:MAX_ERROR_CHARS]
        raise ValueError(f"tools: {path.name} can't be imported; found {reason}; correct it.") from error
    return list_declared(module, path)


def list_declared(module: ModuleType, path: Path) -> dict[str, ToolDeclaration]:
    """Return the tools that a module declares. Raises: ValueError for none, and for two of one name."""
    tools: dict[str, ToolDeclaration] = {}
    for value in dict.fromkeys(value for value in vars(module).values() if callable(value)):
        declaration = get_declaration(value)
        if declaration is None:
            continue
        if declaration.name in tools:
            raise ValueError(f"tools: {path.name} has {declaration.name} twice; found two functions; rename one.")
        tools[declaration.name] = declaration
    if not tools:
        raise ValueError(f"tools: {path.name} declares no tool; found no function marked with @tool; mark one.")
    return tools


def answer(tools: Mapping[str, ToolDeclaration], request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer to one request. Never raises."""
    if request.get("describe"):
        return {"tools": [each.to_json() for each in tools.values()]}
    declaration = tools.get(str(request.get("name")))
    if declaration is None:
        return {"error": "there is no such tool"}
    _limit_memory(int(request["max_memory_mb"]))
    try:
        return {"text": declaration.call(request["arguments"], declaration.limits.max_seconds)}
    except ValueError as error:
        return {"error": str(error)[:MAX_ERROR_CHARS]}
    except MemoryError:
        return {"error": f"{declaration.name} needs more than {request['max_memory_mb']} MB; ask for less"}
    except BaseException as error:  # a tool that exits or is interrupted, too; its message may hold secrets
        return {"error": f"{declaration.name} failed ({type(error).__name__})"}
    finally:
        _limit_memory(None)


def _limit_memory(megabytes: int | None) -> None:
    """Limit the private memory of this process, or lift the limit (None)."""
    if sys.platform != "linux":
        return
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    if megabytes is None:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        return
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    now = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmData:")), 0) * 1024
    limit = now + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard < 0 else min(limit, hard), hard))


def serve(path: Path, requests: Iterable[str], answers: TextIO) -> None:
    """Answer requests until there are no more."""
    try:
        tools = load_tools(path)
    except ValueError as error:
        answers.write(json.dumps({"error": str(error)}) + "\n")
        answers.flush()
        return
    for line in requests:
        answers.write(json.dumps(answer(tools, cast("dict[str, Any]", json.loads(line)))) + "\n")
        answers.flush()


def read_until_parent_ends(stream: TextIO) -> Iterator[str]:
    """Yield the lines of a stream; end the process at its end, also in the middle of a call: whoever asked is gone."""
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        os._exit(0)

    Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def main() -> None:
    """Serve the file that the command line names."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Path(sys.argv[1]), read_until_parent_ends(sys.stdin), answers)


if __name__ == "__main__":
    main()

"""An MCP server on standard input, written after the specification without the library; how it behaves is in a file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

BEHAVIOR = Path(sys.argv[1])
OBJECT = {"type": "object", "properties": {"title": {"type": "string"}}}


def read() -> dict[str, Any]:
    return json.loads(BEHAVIOR.read_text(encoding="utf-8"))


def list_tools() -> dict[str, Any]:
    behavior = read()
    names = behavior.get("names", ["create-ticket", "wait", "die", "show_environment"])
    description = behavior.get("description", "Do it.")
    schema = behavior.get("schema", OBJECT)
    return {"tools": [{"name": name, "description": description, "inputSchema": schema} for name in names]}


def call_tool(name: str, arguments: dict[str, Any]) -> dict[str, Any] | None:
    if name == "wait":
        return None
    if name == "die":
        os._exit(1)
    text = ",".join(sorted(os.environ)) if name == "show_environment" else f"ticket {arguments.get('title', '')}"
    return {"content": [{"type": "text", "text": text}], "isError": arguments.get("title") == "wrong"}


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    """Return the result, None for no answer. Raises: KeyError for an unknown method."""
    params = request.get("params") or {}
    match request["method"]:
        case "initialize":
            information = {"name": "tickets", "version": "1"}
            version = params["protocolVersion"]
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": information}
        case "tools/list":
            return list_tools()
        case "tools/call":
            return call_tool(params["name"], params.get("arguments") or {})
        case method:
            raise KeyError(method)


def main() -> None:
    if read().get("is_broken"):
        raise SystemExit(1)
    for line in sys.stdin:
        request = json.loads(line)
        if "id" not in request:
            continue
        try:
            result = answer(request)
        except KeyError:
            reply = {"error": {"code": -32601, "message": "no such method"}}
        else:
            if result is None:
                continue
            reply = {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], **reply}), flush=True)


if __name__ == "__main__":
    main()

"""Remember the tool definitions of MCP servers as they were approved, so that no server changes them behind the operator's back.

In: a JSON file (STATE/approved_tools.json). Out: `ApprovedTools`: the definitions by server, as they are declared to conversations,
also while the server is down. A definition that has changed is not called until it is approved (`python -m service tools approve
NAME`).

Covers: names, descriptions, schemas, to the byte of their canonical JSON; interrupted writes (a whole file or the old one).
Does not cover: a server that does something else under the same definition.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import Any

MAX_TOOLS = 200  # of a server
MAX_SCHEMA_CHARS = 20_000
MAX_SCHEMA_DEPTH = 12


@dataclass(frozen=True)
class ForeignTool:
    """A tool of another server, as it defines it: nobody vouches for its words."""

    name: str
    description: str
    schema: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of the definition."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


class ApprovedTools:
    """The approved definitions by the key of their server. Thread-safe. Without a file they are forgotten with the process."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._lock = path, Lock()
        self._servers: dict[str, list[ForeignTool]] = _read_servers(path) if path is not None else {}

    def get(self, server: str) -> list[ForeignTool] | None:
        """Return what is approved of a server; None if it was never seen."""
        return self._servers.get(server)

    def approve(self, server: str, tools: Sequence[ForeignTool]) -> None:
        """Approve the definitions of a server in place of its earlier ones, durably."""
        with self._lock:
            servers = {**self._servers, server: list(tools)}
            if self._path is not None:
                _write_servers(self._path, servers)
            self._servers = servers


def check_foreign_tool(name: str, description: str | None, schema: Any) -> ForeignTool:
    """Return a tool as another server defines it. Raises: ValueError for a schema that we don't call."""
    text = json.dumps(schema, default=str)
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise ValueError(f"{name[:80]}.inputSchema is no schema of an object; found {text[:80]}; not called.")
    if len(text) > MAX_SCHEMA_CHARS or _measure_depth(schema) > MAX_SCHEMA_DEPTH:
        raise ValueError(f"{name[:80]}.inputSchema is too large; found {len(text):,} characters; not called.")
    if any(not reference.startswith("#") for reference in _list_references(schema)):
        raise ValueError(f"{name[:80]}.inputSchema refers to another document; found a $ref; not called.")
    return ForeignTool(name, description or "", schema)


def _measure_depth(value: Any) -> int:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((_measure_depth(child) for child in children), default=0)


def _list_references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [each for child in value for each in _list_references(child)]
    if not isinstance(value, dict):
        return []
    own = [str(value["$ref"])] if isinstance(value.get("$ref"), str) else []
    return own + [each for child in value.values() for each in _list_references(child)]


def _read_servers(path: Path) -> dict[str, list[ForeignTool]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return {
            server: [check_foreign_tool(row["name"], row["description"], row["schema"]) for row in tools]
            for server, tools in rows.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"approved tools: {path} can't be read; found {type(error).__name__}; restore it, or remove it and approve anew."
        ) from error


def _write_servers(path: Path, servers: Mapping[str, Sequence[ForeignTool]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {server: [asdict(tool) for tool in tools] for server, tools in sorted(servers.items())}
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(rows, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)

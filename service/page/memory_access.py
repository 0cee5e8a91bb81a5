"""A person's memories for the page: list them, forget them. The file is that of one person; who that is, the route knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assistant.memory.memory_store import Memory, MemoryStore
from service.clock import now
from service.service_error import ServiceError


def list_memories(path: Path) -> list[Memory]:
    """Return what is remembered, oldest first. Raises: ServiceError 503 for a file that can't be read."""
    if not path.exists():  # reading makes no file
        return []
    try:
        return MemoryStore(path).list_memories(now())
    except ValueError as error:
        raise _translate(error) from error


def forget_memories(path: Path, number: int | None) -> int:
    """Delete a memory by its number (None: all) from every file, and return how many there were.

    Raises: ServiceError 404 for a number that is not there, 503 for a file that can't be written.
    """
    try:
        n_forgotten = MemoryStore(path).forget(None if number is None else [number]) if path.exists() else 0
    except (ValueError, OverflowError) as error:
        raise _translate(error) from error
    if number is not None and not n_forgotten:
        message = f"memories: there is no such memory; found none with the number {str(number)[:20]}; list them again."
        raise ServiceError(404, message, code="memory_not_found")
    return n_forgotten


def describe_memory(memory: Memory) -> dict[str, Any]:
    """Return a memory as the page shows it."""
    return {"object": "memory", "source": memory.source, **memory._asdict()}


def _translate(error: Exception) -> ServiceError:
    if isinstance(error, OverflowError):
        return ServiceError(404, "memories: there is no such memory; found a huge number; list them again.")
    message = "memories: the file can't be used; found it locked or damaged; try again, or tell the operator."
    return ServiceError(503, message, code="memory_unavailable", retry_after=1.0)

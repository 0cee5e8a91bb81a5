"""The memory's commands in a chat: see, write, delete and export what is remembered."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

from assistant.memory.memory_store import Memory, MemoryStore
from assistant.memory.remembering import Remembering

ABOUT = {
    "/remember": "/remember TEXT  remember a sentence (for 3 days: TEXT; until 2030-01-31: TEXT)",
    "/memories": "/memories [FILE.json]  show what is remembered, or export it",
    "/forget": "/forget N|all  delete what is remembered, from every file",
}


def make_commands(
    remembering: Remembering, clock: Callable[[], datetime], history: Path | None
) -> dict[str, Callable[[str], str]]:
    """Return the commands by name; each takes the text behind it and returns what to show. `history` is the file of typed lines,
    from which forgotten sentences are removed too."""
    store = remembering.store

    def run(command: Callable[[str], str]) -> Callable[[str], str]:
        def run_safely(text: str) -> str:
            try:
                return command(text)
            except ValueError as error:
                return str(error)

        return run_safely

    def show(text: str) -> str:
        memories = store.list_memories(clock())
        if text:
            return _export(memories, Path(text))
        lines = [f"[memory {memory.number}] {memory.text} ({memory.source})" for memory in memories]
        return "\n".join(lines) or "nothing is remembered"

    def forget(text: str) -> str:
        return _forget(store, text, clock(), history)

    return {"/remember": run(remembering.remember), "/memories": run(show), "/forget": run(forget)}


def _forget(store: MemoryStore, text: str, now: datetime, history: Path | None) -> str:
    numbers = text.removeprefix("[").removesuffix("]").removeprefix("memory").strip()
    if text != "all" and not (numbers.isascii() and numbers.isdigit() and len(numbers) < 12):
        return "say /forget N, with a number that /memories shows, or /forget all"
    memories = store.list_memories(now)
    chosen = memories if text == "all" else [memory for memory in memories if memory.number == int(numbers)]
    n_forgotten = store.forget(None if text == "all" else [int(numbers)])
    if history is not None:
        erase_lines(history, [memory.text for memory in chosen])
    return f"{n_forgotten} forgotten" if n_forgotten or text == "all" else f"there is no memory {numbers}"


def _export(memories: Collection[Memory], path: Path) -> str:
    text = json.dumps([memory._asdict() for memory in memories], ensure_ascii=False, indent=2) + "\n"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ValueError(f"/memories does not overwrite; found {path}; name a new file.") from error
    except OSError as error:
        raise ValueError(f"/memories can't write; found {error.strerror}: {path}; name another file.") from error
    return f"{len(memories)} exported to {path}"


def erase_lines(history: Path, texts: Collection[str]) -> None:
    """Remove the typed lines that contain one of the texts from a history of prompt_toolkit: entries of `# time` and `+line`s.
    The old bytes are overwritten before the file is replaced. Raises: ValueError if the file can't be written."""
    wanted = [text.casefold() for text in texts if text.strip()]
    try:
        if not wanted or not history.exists():
            return
        content = history.read_text(encoding="utf-8", errors="surrogateescape")
        entries = content.split("\n# ")
        kept = [entry for entry in entries if not any(text in " ".join(entry.casefold().split()) for text in wanted)]
        data = "\n# ".join(kept).encode("utf-8", "surrogateescape")
        with history.open("r+b") as file:
            n_bytes = file.seek(0, os.SEEK_END)
            file.seek(0)
            file.write(data.ljust(n_bytes, b"\0"))
            file.truncate(len(data))
    except OSError as error:
        raise ValueError(f"the history can't be cleaned; found {error.strerror}: {history}; delete it.") from error

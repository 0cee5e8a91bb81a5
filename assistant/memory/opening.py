"""Open a memory for one conversation."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from assistant.memory.memory_store import MemoryStore
from assistant.memory.remembering import Remembering
from assistant.memory.similarity import Measure, make_measure
from model.retrieval.embedder import Embedder


def open_memory(path: Path | None, embed: Path | None, clock: Callable[[], datetime]) -> Remembering | None:
    """Return the memory in a file, for a new conversation; None without a file. `embed` is the folder of the stage embed, without
    which sentences are compared by their words.

    Raises: ValueError for a file or folder that can't be used.
    """
    if path is None:
        return None
    return Remembering(MemoryStore(path), load_measure(embed), uuid.uuid4().hex[:8], clock)


def load_measure(embed: Path | None) -> Measure:
    """Return the measure of similarity by a folder of the stage embed, or by words alone. Raises: ValueError for a damaged one."""
    return make_measure(Embedder.load(embed) if embed is not None else None)

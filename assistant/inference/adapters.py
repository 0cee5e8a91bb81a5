"""Serve one model with several adapters: an engine per adapter, chosen by each request or profile.

In: the engine of a base, a folder with a folder per adapter (MINIGPT_ADAPTERS). Out: engines by name; "" is the base's. An engine
is made when its adapter is first asked for. Memory: the adapted matrices of each adapter in use, beside the base; tables are
shared.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock

from assistant.inference.local import ModelEngine


def get_adapters_folder() -> Path:
    """Return the folder of all adapters: MINIGPT_ADAPTERS, by default var/adapters."""
    return Path(os.environ.get("MINIGPT_ADAPTERS") or "var/adapters")


class AdapterEngines:
    """The engines of one base. Thread-safe."""

    def __init__(self, base: ModelEngine, folder: Path) -> None:
        self._engines, self._folder, self._lock = {"": base}, folder, Lock()

    def list_names(self) -> list[str]:
        """Return the names of the adapters in the folder."""
        return sorted(path.name for path in self._folder.iterdir() if path.is_dir()) if self._folder.is_dir() else []

    def get(self, name: str) -> ModelEngine:
        """Return the engine of an adapter. Raises: ValueError for a name that no folder has, or a folder that is no adapter's."""
        with self._lock:
            if name not in self._engines:
                if name not in (names := self.list_names()):
                    found = ", ".join(names) or "none"
                    raise ValueError(
                        f"there is no adapter {name[:80]!r}; found {found} in {self._folder}; use one of them, or add a folder "
                        "(MINIGPT_ADAPTERS)."
                    )
                self._engines[name] = self._engines[""].adapt(self._folder / name)
            return self._engines[name]

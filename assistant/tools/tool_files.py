"""Find files of tools: every `*.py` of a folder (MINIGPT_TOOLS), each run in a process of its own.

In: a folder. Out: `ToolFiles`, the declarations of all files in the order of their names, and the processes behind them.
A file whose name begins with `_` is for the others to import. Raises: ValueError that names the file and what is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path

from assistant.tools.tool_declaration import ToolDeclaration
from assistant.tools.tool_process import ToolProcess

MAX_FILES = 50  # each is a process


def get_tools_folder() -> Path | None:
    """Return the folder of the user's tools (MINIGPT_TOOLS); None if there is none."""
    name = os.environ.get("MINIGPT_TOOLS")
    return Path(name) if name else None


class ToolFiles:
    """The tools of a folder. Close it to end their processes."""

    def __init__(self, folder: Path | None) -> None:
        self._processes = [ToolProcess(path) for path in _list_files(folder)] if folder is not None else []
        self.declarations: list[ToolDeclaration] = []
        try:
            for process in self._processes:
                self.declarations += process.describe()
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.close()


def _list_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"MINIGPT_TOOLS: {folder} is no folder; found nothing there; name a folder of Python files.")
    paths = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    if not paths:
        raise ValueError(f"MINIGPT_TOOLS: {folder} has no tools; found no *.py; put a file there, or unset it.")
    if len(paths) > MAX_FILES:
        raise ValueError(f"MINIGPT_TOOLS: {folder} has {len(paths)} files; at most {MAX_FILES}; join some.")
    return paths

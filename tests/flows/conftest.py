"""The processes of a folder."""

from __future__ import annotations

from pathlib import Path

import psutil


def list_processes(root: Path) -> list[str]:
    """Return the command lines of all processes that run in that folder."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "cwd", "status"])
        if (process.info["cwd"] or "").startswith(str(root)) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]

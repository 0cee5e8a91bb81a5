"""Where a result comes from: the Git commit of a folder, and the flat settings of params.yaml.

In: a repository's root. Out: plain strings, for the registry, the ledger and the report. Nothing is written.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

WRITTEN_BY_THE_RUN = (":(exclude)dvc.lock", ":(exclude)data/metrics", ":(exclude)data/.gitignore")
MAX_PARAM_CHARS = 500  # the limit that every MLflow store accepts; params.yaml itself is stored whole beside it


def run_git(root: Path, *arguments: str) -> str | None:
    """Return the standard output of a Git command run in `root`, or None if it fails or Git is not installed."""
    try:
        process = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return process.stdout if process.returncode == 0 else None


def read_git_state(root: Path) -> dict[str, str]:
    """Return the commit, and whether the working tree differs from it, ignoring the files that a run itself writes."""
    commit = (run_git(root, "rev-parse", "HEAD") or "").strip()
    changed = run_git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *WRITTEN_BY_THE_RUN)
    is_dirty = str(bool((changed or "").strip())).lower() if commit else "unknown"
    return {"git_commit": commit or "unknown", "git_is_dirty": is_dirty}


def read_flat_params(path: Path) -> dict[str, str]:
    """Return the settings of a YAML file by dotted name; lists as JSON, every value cut to `MAX_PARAM_CHARS`."""
    values: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return {
        name: text if len(text) <= MAX_PARAM_CHARS else text[: MAX_PARAM_CHARS - 1] + "…"
        for name, text in _flatten(values, "")
    }


def _flatten(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _flatten(inner, f"{name}.{key}" if name else str(key))]
    return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]

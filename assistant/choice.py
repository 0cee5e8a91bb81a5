"""Which model to talk to: the one that is named, else the champion, else the newest finished one of this workspace.

In: a folder or nothing, and the workspace. Out: a model folder and a sentence that says why this one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = ("config.json", "model.safetensors", "tokenizer.json")
CHAMPION = Path(
    "var/champion"
)  # kept by `python -m pipeline.registry pull`, with version.json beside the model's parts
FINISHED = (Path("data/sft"), Path("data/pretrain"))  # newest phase first


@dataclass(frozen=True)
class Choice:
    folder: Path
    why: str


def choose(named: Path | None, workspace: Path) -> Choice:
    """Raises: ValueError when there is no model, saying how to get one."""
    if named is not None:
        return Choice(named, "named by --model")
    why_not = "there is no champion yet"
    champion = workspace / CHAMPION
    if champion.is_dir():
        missing = _missing(champion)
        if not missing:
            return Choice(champion, _version(champion))
        why_not = f"the champion in {CHAMPION} is incomplete ({missing} is missing)"
    for folder in FINISHED:
        if not _missing(workspace / folder):
            return Choice(workspace / folder, f"{why_not}; this is the newest finished model")
    looked = ", ".join(str(folder) for folder in (CHAMPION, *FINISHED))
    raise ValueError(f"there is no model to talk to; looked in {looked}; train one with: make run")


def _missing(folder: Path) -> str | None:
    return next((name for name in PARTS if not (folder / name).is_file()), None)


def _version(folder: Path) -> str:
    try:
        version: dict[str, Any] = json.loads((folder / "version.json").read_text(encoding="utf-8"))
        return f"{version['name']} version {version['version']}, {version['alias']} of the registry"
    except (OSError, ValueError, KeyError, TypeError):
        return "the champion (its version.json can't be read)"

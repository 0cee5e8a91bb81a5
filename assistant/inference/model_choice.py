"""Choose the model to chat with: the named one, else the champion, else the newest finished model of this workspace.

In: a model folder and an index folder, or neither, and the workspace. Out: the model folder, the index folder that search_docs
searches, and the reason for the choice. By default the index is the folder `index` next to the model folder, as in
var/champion and in data/; without one the model is used without search_docs.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = ("config.json", "model.safetensors", "tokenizer.json")
PASSAGES = "passages.sqlite"  # the file of an index folder
CHAMPION = Path(
    "var/champion"
)  # written by `python -m pipeline.registry pull`: model/, index/, version.json and files.json
STATEMENT = "files.json"  # what the files of a version are; `ModelEngine.load` compares
FINISHED = (Path("data/sft"), Path("data/pretrain"))  # latest phase first


@dataclass(frozen=True)
class ModelChoice:
    folder: Path
    index: Path | None
    reason: str


def choose_model(model: Path | None, index: Path | None, workspace: Path) -> ModelChoice:
    """Return the folders that --model and --index name, or the defaults.

    Raises: ValueError if there is no model, or if the named index folder has no passages.
    """
    folder, reason = (model, "named by --model") if model is not None else _choose_default_model(workspace)
    if index is not None and not (index / PASSAGES).is_file():
        raise ValueError(
            f"--index {index} is not an index folder; found no {PASSAGES} in it; name a folder that the stage index wrote."
        )
    sibling = Path(os.path.normpath(folder / ".." / "index"))  # of a symbolic link: next to the link, not to its target
    return ModelChoice(folder, index or (sibling if (sibling / PASSAGES).is_file() else None), reason)


def _choose_default_model(workspace: Path) -> tuple[Path, str]:
    why_not_champion = "there is no champion yet"
    champion = workspace / CHAMPION
    if champion.is_dir():
        if not _find_missing_part(champion):
            raise ValueError(
                f"{CHAMPION} has the layout of an earlier version; found {PARTS[0]} where model/ and index/ should be; "
                "run: python -m pipeline.registry pull"
            )
        missing = _find_missing_part(champion / "model")
        if not missing and not (champion / STATEMENT).is_file():
            raise ValueError(
                f"{CHAMPION} does not state what its files are; found no {STATEMENT} in it; run: python -m pipeline.registry pull"
            )
        if not missing:
            return champion / "model", _describe_version(champion)
        why_not_champion = f"the champion in {CHAMPION} is incomplete ({missing} is missing)"
    for folder in FINISHED:
        if not _find_missing_part(workspace / folder):
            return workspace / folder, f"{why_not_champion}; this is the newest finished model"
    searched = ", ".join(str(folder) for folder in (CHAMPION, *FINISHED))
    raise ValueError(f"there is no model to chat with; found none in {searched}; train one with: make run")


def _find_missing_part(folder: Path) -> str | None:
    return next((name for name in PARTS if not (folder / name).is_file()), None)


def _describe_version(folder: Path) -> str:
    try:
        version: dict[str, Any] = json.loads((folder / "version.json").read_text(encoding="utf-8"))
        return f"{version['name']} version {version['version']}, {version['alias']} of the registry"
    except (OSError, ValueError, KeyError, TypeError):
        return "the champion (its version.json can't be read)"

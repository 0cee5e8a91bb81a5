"""Choose the model to talk to: the one that is named, else the champion, else the newest finished one of this workspace.

In: a model folder and an index folder, or nothing, and the workspace. Out: a model folder, the folder of the index that
search_docs searches, and a sentence that says why this model. The index is the folder `index` beside the model, as in
var/champion and in data/; a model without one is used without search_docs.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = ("config.json", "model.safetensors", "tokenizer.json")
PASSAGES = "passages.sqlite"  # what an index folder has
CHAMPION = Path("var/champion")  # kept by `python -m pipeline.registry pull`: model/, index/ and version.json
FINISHED = (Path("data/sft"), Path("data/pretrain"))  # newest phase first


@dataclass(frozen=True)
class Choice:
    folder: Path
    index: Path | None
    why: str


def choose(model: Path | None, index: Path | None, workspace: Path) -> Choice:
    """Return what --model and --index name, or the defaults. Raises: ValueError when there is no model, or the named index
    is none, saying how to get one."""
    folder, why = (model, "named by --model") if model is not None else _choose_model(workspace)
    if index is not None and not (index / PASSAGES).is_file():
        raise ValueError(
            f"--index {index} is no index folder; found no {PASSAGES} in it; name a folder that the stage index wrote."
        )
    beside = Path(os.path.normpath(folder / ".." / "index"))  # of a path through a link: beside it, not where it leads
    return Choice(folder, index or (beside if (beside / PASSAGES).is_file() else None), why)


def _choose_model(workspace: Path) -> tuple[Path, str]:
    why_not = "there is no champion yet"
    champion = workspace / CHAMPION
    if champion.is_dir():
        if not _missing(champion):
            raise ValueError(
                f"{CHAMPION} has the layout of an earlier version; found {PARTS[0]} where model/ and index/ should be; "
                "run: python -m pipeline.registry pull"
            )
        missing = _missing(champion / "model")
        if not missing:
            return champion / "model", _version(champion)
        why_not = f"the champion in {CHAMPION} is incomplete ({missing} is missing)"
    for folder in FINISHED:
        if not _missing(workspace / folder):
            return workspace / folder, f"{why_not}; this is the newest finished model"
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

"""Choose the model to chat with: the named one, else the champion, else the newest finished model of this workspace.

In: a model folder and an index folder, or neither, and the workspace. Out: the model folder, the index folder that search_docs
searches, the folder of the stage embed that belongs to it, and the reason for the choice. By default the index is the folder
`index` next to the model folder, as in var/champion and in data/; without one the model is used without search_docs. The folder
`embed` beside the index has its vectors; without one, searches go by names and words alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = ("config.json", "model.safetensors", "tokenizer.json")
SEGMENT = "segment.json"  # in every index folder
EMBED = "embed.json"  # in every folder of the stage embed
EARLIER = "passages.sqlite"  # in an index folder of an earlier version
# Written by `python -m pipeline.registry pull`: model/, index/, embed/, version.json and files.json.
CHAMPION = Path("var/champion")
STATEMENT = "files.json"  # what the files of a version are; `ModelEngine.load` compares
FINISHED = (Path("data/sft"), Path("data/pretrain"))  # latest phase first


@dataclass(frozen=True)
class ModelChoice:
    folder: Path
    index: Path | None
    reason: str
    embed: Path | None = None


def choose_model(model: Path | None, index: Path | None, workspace: Path) -> ModelChoice:
    """Return the folders that --model and --index name, or the defaults.

    Raises: ValueError if there is no model, if the named folder is no index, or if an earlier version wrote the index.
    """
    folder, reason = (model, "named by --model") if model is not None else _choose_default_model(workspace)
    sibling = Path(os.path.normpath(folder / ".." / "index"))  # of a symbolic link: next to the link, not to its target
    chosen = index or sibling
    if (chosen / SEGMENT).is_file():
        embed = Path(os.path.normpath(chosen / ".." / "embed"))
        return ModelChoice(folder, chosen, reason, embed if (embed / EMBED).is_file() else None)
    if (chosen / EARLIER).is_file():
        raise ValueError(
            f"{chosen} was written by an earlier version; found {EARLIER} and no {SEGMENT} in it; run the pipeline again "
            "(make run), or: python -m pipeline.registry pull"
        )
    if index is not None:
        raise ValueError(
            f"--index {index} is not an index folder; found no {SEGMENT} in it; name a folder that the stage index wrote."
        )
    return ModelChoice(folder, None, reason)


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

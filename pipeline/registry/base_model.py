"""Fetch the model of a version, or copy a model folder, as the base that a task recipe tunes: the recipe's first node.

In: models:/minigpt@champion, models:/minigpt/3, or a model folder. Out: a model folder with version.json, which states the version
(not the alias). The same version gives the same bytes, so that a recipe runs again exactly when its base has changed: the node has
`always_changed: true`, since only the registry knows which version an alias is.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.frame.errors import UserError
from pipeline.registry.champion import fetch_atomically
from pipeline.registry.promotion import DIGEST, NAME, Version, find_version
from pipeline.registry.store import MlflowStore

URI = re.compile(rf"models:/{NAME}(?:/(\d+)|@(\w+))")
PARTS = ("config.json", "model.safetensors", "tokenizer.json")
ABOUT = "version.json"

OpenStore = Callable[[], AbstractContextManager[MlflowStore]]


def fetch_model(source: str, out: Path, open_registry: OpenStore) -> str:
    """Write the model folder `out`, which is replaced; return what it is. It opens the registry only for a version of it.

    Raises: `UserError` for an unknown version, another model, a folder without a model, or an `out` that is no model folder.
    """
    if out.exists() and not (out / ABOUT).is_file():
        do = f"give a new folder, or one that fetch has written, such as data/recipes/NAME/{out.name}"
        raise UserError(f"fetch: --out {out} would be replaced", f"no {ABOUT} in it", do)
    match = URI.fullmatch(source)
    with tempfile.TemporaryDirectory() as temporary:
        if match is None:
            folder, about = _find_folder(source), {"folder": source}
        else:
            with open_registry() as store:
                version = find_by_uri(store, source)
                store.fetch(version, Path(temporary) / "version")
            folder, about = Path(temporary) / "version/model", _describe_version(version)
        if out.exists():
            shutil.rmtree(out)
        fetch_atomically(out, lambda target: _copy(folder, target, about))
    return f"version {about['version']} of {NAME}" if "version" in about else source


def _find_folder(source: str) -> Path:
    folder = Path(source)
    missing = [name for name in PARTS if not (folder / name).is_file()]
    if source.startswith("models:") or missing:
        found = f"no {missing[0]} in it" if folder.is_dir() else "no such folder, and no version's address"
        do = f"give models:/{NAME}@champion, models:/{NAME}/N (python -m pipeline.registry list), or a model folder"
        raise UserError(f"fetch: {source}: neither a version of the registry nor a model folder", found, do)
    return folder


def find_by_uri(store: MlflowStore, uri: str) -> Version:
    """Return the version at models:/minigpt/N or models:/minigpt@ALIAS. Raises: `UserError` if there is none."""
    match = URI.fullmatch(uri)
    assert match is not None
    number = match[1]
    if number is None:
        aliases = store.read_aliases()
        number = aliases.get(match[2])
        if number is None:
            found = ", ".join(f"{alias} = {version}" for alias, version in aliases.items()) or "no versions"
            do = "give one of these, or publish and promote a version (make run)"
            raise UserError(f"fetch: {uri}: no version is {match[2]}", found, do)
    return find_version(store, number)


def _describe_version(version: Version) -> dict[str, str]:
    return {"name": NAME, "version": version.number, "files_sha256": version.tags.get(DIGEST, "")}


def _copy(folder: Path, target: Path, about: dict[str, str]) -> None:
    shutil.copytree(folder, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(ABOUT))
    (target / ABOUT).write_text(json.dumps(about, sort_keys=True) + "\n", encoding="utf-8")

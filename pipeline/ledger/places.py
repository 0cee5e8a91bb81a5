"""Where the data of the workspace, of a Git revision or of a model version lies: one folder for each stage.

In: dvc.yaml or a lineage (each stage's command and the md5 of its outs). Out: a `DataSnapshot`; what is not in the workspace is
found in DVC's cache and shown as a folder of links, so nothing is checked out. Memory: the names of the files.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from pipeline.frame.errors import UserError
from pipeline.registry.lineage import extract_lineage

STAGES = ("download", "dedupe", "filter", "shard")  # where no graph says otherwise
FIRST, LAST = "download", "shard"

Lineage = Mapping[str, Any]


@dataclass(frozen=True)
class DataSnapshot:
    """One state of the data: the folder of each stage from the sources to the token shards, in order."""

    name: str
    folders: Mapping[str, Path]

    @property
    def docs(self) -> dict[str, Path]:
        """The stages that make documents, in order."""
        return {stage: folder for stage, folder in self.folders.items() if stage != LAST}

    @property
    def collected(self) -> Path:
        """The documents as they were collected."""
        return next(iter(self.folders.values()))

    @property
    def final(self) -> Path:
        """The documents that the model is made of."""
        return list(self.docs.values())[-1]


def stage_folders(dvc_file: Path, data: Path | None) -> dict[str, Path]:
    """The out folder of each stage on the way to the shards, in the order of the graph. `data` overrules dvc.yaml."""
    if data is not None or not dvc_file.exists():
        return {stage: (data or Path("data")) / stage for stage in STAGES}
    graph: Any = YAML(typ="safe", pure=True).load(dvc_file.read_text(encoding="utf-8"))
    outs = {
        name: (stage.get("cmd", ""), [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]])
        for name, stage in graph["stages"].items()
    }
    return {stage: Path(outs[stage][1][0]) for stage in road(outs)}


def road(stages: Mapping[str, tuple[str, list[str]]]) -> list[str]:
    """The stages (command, outs) that documents go through: from the shards back along `--docs`."""
    found: list[str] = []
    at = LAST if LAST in stages else None
    while at is not None:
        found.insert(0, at)
        words = shlex.split(stages[at][0])
        docs = words[words.index("--docs") + 1] if "--docs" in words[:-1] else None
        at = next((name for name, (_, outs) in stages.items() if docs in outs and name not in found), None)
    return found if len(found) > 1 else [stage for stage in STAGES if stage in stages]


class DvcCache:
    """DVC's cache of a repository: files by the md5 of their content."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[str, dict[str, str]] = {}

    @cached_property
    def folder(self) -> Path:
        """Where it lies; only DVC knows all the places where that can be set."""
        command = [sys.executable, "-m", "dvc", "cache", "dir"]
        done = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        return self.root / (done.stdout.strip() if done.returncode == 0 else ".dvc/cache")

    def path(self, md5: str) -> Path | None:
        """The file of that content, or None."""
        path = self.folder / "files" / "md5" / md5[:2] / md5[2:]
        return path if md5 and path.exists() else None

    def listing(self, md5: str) -> dict[str, str] | None:
        """A folder's files and their md5, or None."""
        if md5 not in self._listings:
            path = self.path(md5)
            if path is None:
                return None
            self._listings[md5] = {item["relpath"]: item["md5"] for item in json.loads(path.read_bytes())}
        return self._listings[md5]

    def link(self, md5: str, folder: Path) -> str | None:
        """Makes `folder` with a link to each of the files; gives back the first one that is not there, if any."""
        listing = self.listing(md5)
        if listing is None:
            return md5
        for name, digest in listing.items():
            path = self.path(digest)
            if path is None:
                return digest
            link = folder / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.absolute())
        return None


def snapshot(name: str, made: Lineage, cache: DvcCache, links: Path) -> DataSnapshot:
    """The data that a lineage names, as links below `links`. Raises `UserError` if the cache lacks a part of it."""
    stages = {stage: (entry["cmd"], [out["path"] for out in entry["outs"]]) for stage, entry in made.items()}
    folders: dict[str, Path] = {}
    for stage in road(stages):
        out = folder_out(made, stage)
        folders[stage] = links / stage
        folders[stage].mkdir(parents=True)
        missing = cache.link(out["md5"], folders[stage])
        if missing is not None:
            raise UserError(
                f"{name}: {out['path']} is not in DVC's cache",
                f"nothing for md5 {missing} below {cache.folder}",
                f"get it from the remote (dvc fetch --all-commits {out['path']}), or check that revision out in another "
                f"folder and make it again (dvc repro {stage})",
            )
    if not folders:
        raise UserError(f"{name}: no data", "no stage on the way to the token shards in its dvc.lock", "run dvc repro")
    return DataSnapshot(name, folders)


def folder_out(made: Lineage, stage: str) -> Mapping[str, str]:
    """Path and md5 of the folder that a stage made (its metrics are an out too); empty if there is none."""
    outs = made.get(stage, {}).get("outs", [])
    return next((out for out in outs if out["md5"].endswith(".dir")), {"path": f"data/{stage}", "md5": ""})


def lineage_at(root: Path, revision: str) -> Lineage:
    """What dvc.lock said at a Git revision. Raises `UserError` for no such revision, or no dvc.lock in it."""
    if git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}") is None:
        raise UserError(
            f"{revision}: no such state of the data",
            "no Git revision and no model version of that name",
            "give a commit, branch or tag, a model version (v3) or its run's name, or `workspace`",
        )
    text = git(root, "show", f"{revision}:./dvc.lock")
    if text is None:
        raise UserError(f"{revision}: no dvc.lock", "the pipeline had not run in that commit", "give a later commit")
    try:
        return extract_lineage(YAML(typ="safe").load(text))
    except (YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{revision}: its dvc.lock can't be read", repr(error)[:200], "give another commit") from error


def git(root: Path, *arguments: str) -> str | None:
    """What Git prints, or None where it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None

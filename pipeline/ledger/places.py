"""Locate the data of the workspace, of a Git revision or of a model version: one folder per stage.

In: dvc.yaml or a lineage (each stage's command and the md5 of its outs). Out: a `DataSnapshot`; data that is not in the workspace
is found in DVC's cache and presented as a folder of links, so nothing is checked out. Memory: the names of the files.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, YAMLError

from pipeline.frame.errors import UserError
from pipeline.frame.provenance import run_git
from pipeline.registry.lineage import extract_lineage

GRAPH = Path(__file__).parents[2] / "dvc.yaml"  # this repository's own
LAST = "shard"  # documents are traced back from here

Lineage = Mapping[str, Any]
StageOuts = Mapping[str, tuple[str, list[str]]]  # stage → its command, its outs


@dataclass(frozen=True)
class DataSnapshot:
    """One state of the data: the folder of each stage from the sources to the token shards, in order."""

    name: str
    folders: Mapping[str, Path]

    @property
    def docs(self) -> dict[str, Path]:
        """The stages that write documents, in order."""
        return {stage: folder for stage, folder in self.folders.items() if stage != LAST}

    @property
    def collected(self) -> Path:
        """The documents as they were collected."""
        return next(iter(self.folders.values()))

    @property
    def final(self) -> Path:
        """The documents that the model is trained on."""
        return list(self.docs.values())[-1]


def find_stage_folders(dvc_file: Path, data: Path | None) -> dict[str, Path]:
    """Return the out folder of each stage from the sources to the shards, in order.

    `data` overrides dvc.yaml with one folder per stage; without either, these are the folders below data/.
    """
    if data is not None or not dvc_file.exists():
        return {stage: (data or Path("data")) / stage for stage in list_text_stages()}
    outs = _read_graph(dvc_file)
    return {stage: Path(outs[stage][1][0]) for stage in trace_documents(outs) or _keep_known(outs)}


@cache
def list_text_stages() -> tuple[str, ...]:
    """Return the stages from the sources to the token shards, as this repository's dvc.yaml connects them."""
    return tuple(trace_documents(_read_graph(GRAPH)))


def _read_graph(dvc_file: Path) -> StageOuts:
    graph: Any = YAML(typ="safe", pure=True).load(dvc_file.read_text(encoding="utf-8"))
    return {
        name: (stage.get("cmd", ""), [out if isinstance(out, str) else next(iter(out)) for out in stage["outs"]])
        for name, stage in graph["stages"].items()
    }


def trace_documents(stages: StageOuts) -> list[str]:
    """Return the stages that documents pass through: from the shards back along `--docs`; empty if there is no such chain."""
    chain: list[str] = []
    stage = LAST if LAST in stages else None
    while stage is not None:
        chain.insert(0, stage)
        words = shlex.split(stages[stage][0])
        docs = words[words.index("--docs") + 1] if "--docs" in words[:-1] else None
        stage = next((name for name, (_, outs) in stages.items() if docs in outs and name not in chain), None)
    return chain if len(chain) > 1 else []


def _keep_known(stages: Mapping[str, Any]) -> list[str]:
    """Return the text stages among `stages`, for a lineage whose commands have no `--docs`."""
    return [stage for stage in list_text_stages() if stage in stages]


class DvcCache:
    """DVC's cache of a repository: files by the md5 of their content."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[str, dict[str, str]] = {}

    @cached_property
    def folder(self) -> Path:
        """The folder of the cache; DVC is asked, because it can be set in several places."""
        command = [sys.executable, "-m", "dvc", "cache", "dir"]
        process = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        return self.root / (process.stdout.strip() if process.returncode == 0 else ".dvc/cache")

    def get_path(self, md5: str) -> Path | None:
        """Return the file with this content, or None."""
        path = self.folder / "files" / "md5" / md5[:2] / md5[2:]
        return path if md5 and path.exists() else None

    def read_listing(self, md5: str) -> dict[str, str] | None:
        """Return the md5 of each file of a folder by name, or None."""
        if md5 not in self._listings:
            path = self.get_path(md5)
            if path is None:
                return None
            self._listings[md5] = {item["relpath"]: item["md5"] for item in json.loads(path.read_bytes())}
        return self._listings[md5]

    def link(self, md5: str, folder: Path) -> str | None:
        """Fill `folder` with links to the files of a cached folder; return the first md5 that is missing, or None."""
        listing = self.read_listing(md5)
        if listing is None:
            return md5
        for name, digest in listing.items():
            path = self.get_path(digest)
            if path is None:
                return digest
            link = folder / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.absolute())
        return None


def link_snapshot(name: str, made: Lineage, cache: DvcCache, links: Path) -> DataSnapshot:
    """Return the data that a lineage names, as links below `links`. Raises `UserError` if a part of it is not cached."""
    stages = {stage: (entry["cmd"], [out["path"] for out in entry["outs"]]) for stage, entry in made.items()}
    folders: dict[str, Path] = {}
    for stage in trace_documents(stages) or _keep_known(stages):
        out = get_folder_out(made, stage)
        folders[stage] = links / stage
        folders[stage].mkdir(parents=True)
        missing = cache.link(out["md5"], folders[stage])
        if missing is not None:
            raise UserError(
                f"{name}: {out['path']} is not in DVC's cache",
                f"no file for md5 {missing} below {cache.folder}",
                f"get it from the remote (dvc fetch --all-commits {out['path']}), or check that revision out in another "
                f"folder and rebuild it there (dvc repro {stage})",
            )
    if not folders:
        found = "its dvc.lock has no stage that leads to token shards"
        raise UserError(f"{name}: no data", found, "run dvc repro, and commit dvc.lock")
    return DataSnapshot(name, folders)


def get_folder_out(made: Lineage, stage: str) -> Mapping[str, str]:
    """Return path and md5 of the folder that a stage wrote (its metrics are an out too); an empty md5 if there is none."""
    outs = made.get(stage, {}).get("outs", [])
    return next((out for out in outs if out["md5"].endswith(".dir")), {"path": f"data/{stage}", "md5": ""})


def read_lineage_at(root: Path, revision: str) -> Lineage:
    """Return the lineage in dvc.lock at a Git revision. Raises `UserError` if there is no such revision, or no lock in it."""
    if run_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}") is None:
        raise UserError(
            f"{revision}: no such state of the data",
            "no Git revision and no model version of that name",
            "give a commit, branch or tag, a model version (v3) or its run's name, or `workspace`",
        )
    text = run_git(root, "show", f"{revision}:./dvc.lock")
    if text is None:
        raise UserError(f"{revision}: no dvc.lock", "the pipeline had not run in that commit", "give a later commit")
    try:
        return extract_lineage(YAML(typ="safe").load(text))
    except (YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{revision}: its dvc.lock can't be read", repr(error)[:200], "give another commit") from error

"""Everything that `publish` records about a finished pipeline, read from the repository's root.

In: dvc.lock, dvc.yaml, params.yaml, data/metrics/*.json, var/timings, the training histories and Git. Out: one `Publication`,
identified by a fingerprint of a version's outputs and of the params. Nothing is written. An unfinished or stale pipeline is
refused: `dvc status` decides, because only DVC knows everything that a stage depends on.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.frame.errors import UserError
from pipeline.frame.provenance import read_flat_params, read_git_state
from pipeline.frame.timings import TIMINGS, read_timings
from pipeline.storage.lines import read_json_list

METRICS = Path("data/metrics")
VERSION_OUTS = (
    "data/sft",
    "data/index",
    "data/embed",
    "data/guard",
    "data/evaluate",
    "data/metrics/evaluate.json",
)  # what a version consists of
CURVES = ("pretrain", "sft")  # stages that write data/<stage>/history.jsonl

Lock = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One value of a metric at a step."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class Publication:
    """A finished pipeline, ready to be published."""

    fingerprint: str
    metrics: dict[str, float]  # "stage.metric"
    params: dict[str, str]  # by dotted name
    curves: list[Point]  # named "stage/metric"
    lineage: dict[str, Any]
    tags: dict[str, str]


def collect_publication(root: Path) -> Publication:
    """Collect everything about the finished pipeline below `root`. Raises `UserError` if it is unfinished or stale."""
    lock = read_lock(root)
    check_finished(root)
    stages = list(lock["stages"])
    return Publication(
        fingerprint=compute_fingerprint(lock),
        metrics=read_stage_metrics(root, stages) | read_stage_timings(root, stages),
        params=read_flat_params(root / "params.yaml"),
        curves=[point for stage in CURVES for point in read_curve(root / "data" / stage / "history.jsonl", stage)],
        lineage=extract_lineage(lock),
        tags=read_git_state(root),
    )


def read_lock(root: Path) -> Lock:
    """Return the content of dvc.lock. Raises `UserError` if there is none."""
    path = root / "dvc.lock"
    try:
        lock: Lock = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file", "no finished pipeline", "run `make run` or `dvc repro` first"
        ) from error
    return lock


def check_finished(root: Path) -> None:
    """Raise `UserError` if a stage has not run, or if its inputs or outputs have changed since it ran."""
    command = [sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml"]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if process.returncode:
        found = process.stderr.strip().splitlines()[:2]
        raise UserError("publish: `dvc status` failed", " ".join(found), "wait until no stage is running, then retry")
    changes: dict[str, list[Any]] = json.loads(process.stdout or "{}")
    if changes:
        found = "; ".join(f"{stage}: {_describe_changes(details)}" for stage, details in list(changes.items())[:4])
        more = f"; and {len(changes) - 4} more stages" if len(changes) > 4 else ""
        raise UserError(
            "publish: the pipeline is unfinished or stale", found + more, "run `make run` or `dvc repro` first"
        )


def _describe_changes(details: list[Any]) -> str:
    changes: list[str] = []
    for detail in details:
        if isinstance(detail, str):
            changes.append(detail)
            continue
        for paths in detail.values():
            changes += [f"{path} {state}" for path, state in paths.items() if isinstance(state, str)]
            changes += [f"{path}: {', '.join(state)}" for path, state in paths.items() if not isinstance(state, str)]
    return ", ".join(changes[:3]) + (", …" if len(changes) > 3 else "")


def compute_fingerprint(lock: Lock) -> str:
    """Return the SHA-256 that identifies a version: of the md5 of its outputs in dvc.lock, and of the params of every stage.

    Commands, code and inputs are lineage: the same weights, made in another folder, on another day or by code in which a comment
    has changed, are the same version. Raises `UserError` for a lock without a model.
    """
    outs = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage.get("outs", [])}
    if VERSION_OUTS[0] not in outs:
        raise UserError(
            "dvc.lock: there is no model", f"no output {VERSION_OUTS[0]}", "run `make run` or `dvc repro` first"
        )
    params = {name: stage["params"] for name, stage in lock["stages"].items() if "params" in stage}
    version = {"outs": {path: outs[path] for path in VERSION_OUTS if path in outs}, "params": params}
    return hashlib.sha256(json.dumps(version, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def extract_lineage(lock: Lock) -> dict[str, Any]:
    """Return each stage's command, and path and md5 of its inputs and outputs."""
    return {
        stage: {
            "cmd": entry["cmd"],
            **{
                kind: [{"path": item["path"], "md5": item.get("md5", "")} for item in entry.get(kind, [])]
                for kind in ("deps", "outs")
            },
        }
        for stage, entry in lock["stages"].items()
    }


def read_stage_metrics(root: Path, stages: list[str]) -> dict[str, float]:
    """Return `stage.metric` of every stage that wrote data/metrics/<stage>.json."""
    paths = [(stage, root / METRICS / f"{stage}.json") for stage in stages]
    return {
        f"{stage}.{name}": float(value)
        for stage, path in paths
        if path.exists()
        for name, value in json.loads(path.read_text(encoding="utf-8")).items()
    }


def read_stage_timings(root: Path, stages: list[str]) -> dict[str, float]:
    """Return `stage.reading` (seconds, tokens per second, MFU) of every stage whose metrics were made in this workspace."""
    return {
        f"{stage}.{name}": value
        for stage in stages
        for name, value in read_timings(root / TIMINGS / f"{stage}.json", root / METRICS / f"{stage}.json").items()
    }


def read_curve(path: Path, stage: str) -> list[Point]:
    """Return every finite number of a training history with its step; empty if there is no such file."""
    if not path.exists():
        return []
    return [
        Point(f"{stage}/{name}", int(row["step"]), float(value))
        for _, row in read_json_list(path)
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    ]

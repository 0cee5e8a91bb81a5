"""What a finished pipeline is made of: everything that `publish` puts into the registry, read from the repository's root.

In: dvc.lock, dvc.yaml, params.yaml, data/metrics/*.json, var/timings, the training histories and Git. Out: one `Publication`,
named by a fingerprint of the outputs that a version consists of and of the params. Nothing is written. An unfinished or stale
pipeline is refused: DVC itself is asked, because only it knows what every stage depends on.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.frame.errors import UserError
from pipeline.frame.timings import TIMINGS, read_timings

METRICS = Path("data/metrics")
VERSION_OUTS = ("data/sft", "data/index", "data/evaluate", "data/metrics/evaluate.json")  # what a version consists of
CURVES = ("pretrain", "sft")  # stages that leave data/<stage>/history.jsonl
WRITTEN_BY_THE_RUN = (":(exclude)dvc.lock", ":(exclude)data/metrics", ":(exclude)data/.gitignore")
MAX_PARAM_CHARS = 500  # what every MLflow store takes; params.yaml itself is kept whole beside it

Lock = dict[str, Any]


@dataclass(frozen=True)
class Point:
    """One value of a curve."""

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class Publication:
    """A finished pipeline, ready to be published."""

    fingerprint: str
    metrics: dict[str, float]  # "stage.metric"
    params: dict[str, str]  # dotted names
    curves: list[Point]  # "stage/value"
    lineage: dict[str, Any]
    tags: dict[str, str]


def collect(root: Path) -> Publication:
    """Everything about the finished pipeline below `root`. Raises `UserError` if it is unfinished or stale."""
    lock = read_lock(root)
    check_finished(root)
    stages = list(lock["stages"])
    return Publication(
        fingerprint=fingerprint(lock),
        metrics=stage_metrics(root, stages) | stage_timings(root, stages),
        params=flat_params(root / "params.yaml"),
        curves=[point for stage in CURVES for point in read_curve(root / "data" / stage / "history.jsonl", stage)],
        lineage=lineage(lock),
        tags=git_state(root),
    )


def read_lock(root: Path) -> Lock:
    """dvc.lock as it stands. Raises `UserError` if there is none."""
    path = root / "dvc.lock"
    try:
        lock: Lock = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path}: no such file", "no finished pipeline", "run `make run` or `dvc repro` first"
        ) from error
    return lock


def check_finished(root: Path) -> None:
    """Raises `UserError` if a stage has not run, or what it read or wrote has changed since."""
    command = [sys.executable, "-m", "dvc", "status", "--json", "dvc.yaml"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        found = done.stderr.strip().splitlines()[:2]
        raise UserError("publish: `dvc status` failed", " ".join(found), "wait until no stage runs, then try again")
    changes: dict[str, list[Any]] = json.loads(done.stdout or "{}")
    if changes:
        found = "; ".join(f"{stage}: {_changes(details)}" for stage, details in list(changes.items())[:4])
        more = f"; and {len(changes) - 4} stages more" if len(changes) > 4 else ""
        raise UserError(
            "publish: the pipeline is unfinished or stale", found + more, "run `make run` or `dvc repro` first"
        )


def _changes(details: list[Any]) -> str:
    said: list[str] = []
    for detail in details:
        if isinstance(detail, str):
            said.append(detail)
            continue
        for paths in detail.values():
            said += [f"{path} {state}" for path, state in paths.items() if isinstance(state, str)]
            said += [f"{path}: {', '.join(state)}" for path, state in paths.items() if not isinstance(state, str)]
    return ", ".join(said[:3]) + (", …" if len(said) > 3 else "")


def fingerprint(lock: Lock) -> str:
    """Return the SHA-256 of a version: the hashes of its outputs in dvc.lock, and the params of every stage.

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


def lineage(lock: Lock) -> dict[str, Any]:
    """Each stage's command, and path and md5 of everything it read and wrote."""
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


def stage_metrics(root: Path, stages: list[str]) -> dict[str, float]:
    """`stage.metric` of every stage that wrote data/metrics/<stage>.json."""
    paths = [(stage, root / METRICS / f"{stage}.json") for stage in stages]
    return {
        f"{stage}.{name}": float(value)
        for stage, path in paths
        if path.exists()
        for name, value in json.loads(path.read_text(encoding="utf-8")).items()
    }


def stage_timings(root: Path, stages: list[str]) -> dict[str, float]:
    """Return `stage.reading` of every stage whose metrics were made here: seconds, tokens per second, MFU."""
    return {
        f"{stage}.{name}": value
        for stage in stages
        for name, value in read_timings(root / TIMINGS / f"{stage}.json", root / METRICS / f"{stage}.json").items()
    }


def flat_params(path: Path) -> dict[str, str]:
    """Dotted names to values; lists and long values as JSON, cut at what every store takes."""
    values: Any = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return {
        name: text if len(text) <= MAX_PARAM_CHARS else text[: MAX_PARAM_CHARS - 1] + "…"
        for name, text in _flat(values, "")
    }


def _flat(value: Any, name: str) -> list[tuple[str, str]]:
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{name}.{key}" if name else str(key))]
    return [(name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))]


def read_curve(path: Path, stage: str) -> list[Point]:
    """Every number of a training history against its step."""
    if not path.exists():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [
        Point(f"{stage}/{name}", int(row["step"]), float(value))
        for row in rows
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    ]


def git_state(root: Path) -> dict[str, str]:
    """The commit and whether the tree differs from it, apart from what a run itself writes."""
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *WRITTEN_BY_THE_RUN)
    return {"git_commit": commit or "unknown", "git_is_dirty": "unknown" if not commit else str(bool(changed)).lower()}


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

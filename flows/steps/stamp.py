"""Remember how the last run ended, so that a run in which nothing has changed needs no server, no MLflow and no Prefect.

In: the repository's root. Out: var/outcomes/run.json: a hash of what a run reads beside the stages (DVC's lock file, params, the
registry's database, the champion's folder, the report), and the run's result. Only for the repository's own registry: another
one (MLFLOW_TRACKING_URI) can change without a trace here.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from flows.steps.sequence import OUTCOMES, StepResult, read_metrics

STAMP = OUTCOMES / "run.json"
FILES = (
    "dvc.lock",
    "dvc.yaml",
    "params.yaml",
    "var/mlflow.db",
    "var/mlflow.db-wal",
    "var/report.md",
    "var/outcomes/publish.json",
)
CHAMPION = Path("var/champion")


def read_last(root: Path) -> StepResult | None:
    """Return the result of the last run with the registry if everything that it would read now is the same, else None."""
    stamp = read_metrics(root / STAMP)
    if not stamp or os.environ.get("MLFLOW_TRACKING_URI") or stamp["hash"] != compute_hash(root):
        return None
    return StepResult(stamp["name"], stamp["message"])


def write(root: Path, result: StepResult) -> None:
    """Keep the result of a run with the registry."""
    path = root / STAMP
    path.parent.mkdir(parents=True, exist_ok=True)
    stamp = {"hash": compute_hash(root), "name": result.name, "message": result.message}
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(stamp), encoding="utf-8")
    temporary.replace(path)


def compute_hash(root: Path) -> str:
    """Return a hash of the contents of `FILES`, and of names, sizes and times in the champion's folder."""
    digest = hashlib.sha256()
    for name in FILES:
        path = root / name
        digest.update(f"{name} {path.stat().st_size if path.is_file() else None}\n".encode())
        if path.is_file():
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    champion = root / CHAMPION
    for path in sorted(champion.rglob("*")):
        status = path.stat()
        digest.update(f"{path.relative_to(champion)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()

"""Add the metrics of a red-team run to a version, so that the gate can bound them (`registry.at_most`).

In: the report `redteam.json` that `python -m service red-team --model FOLDER` wrote, and a version. Out: its metrics among those of
the version's run, by their names. A report about other weights than the version's is refused, and so is one that is no such report.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from pipeline.frame.errors import UserError
from pipeline.registry.installed import SOURCES
from pipeline.registry.lineage import Point
from pipeline.registry.promotion import find_version
from pipeline.registry.store import MlflowStore

WEIGHTS = f"{SOURCES[0]}/model.safetensors"
PREFIXES = ("redteam_", "n_redteam_")


def attach_red_team(store: MlflowStore, number: str, path: Path) -> dict[str, float]:
    """Log the metrics of a report to a version's run and return them. Raises: `UserError`."""
    digest, metrics = read_red_team(path)
    version = find_version(store, number)
    stated = store.read_statement(version).get(WEIGHTS, "")
    if digest != stated:
        found = f"SHA-256 {digest[:16] or '(none: the report is about an address)'}, version {number} has {stated[:16]}"
        raise UserError(
            f"{path}: it is about other weights",
            found,
            "run: python -m service red-team --model FOLDER of this version",
        )
    store.log_values(version.run_id, [Point(f"evaluate.{name}", 0, value) for name, value in metrics.items()], {})
    return metrics


def read_red_team(path: Path) -> tuple[str, dict[str, float]]:
    """Return the SHA-256 of the weights that a report is about, and its metrics. Raises: `UserError`."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        digest, metrics = str(content["about"]["model_sha256"]), content["metrics"]
        values = {str(name): float(value) for name, value in metrics.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"[:200]
        raise UserError(f"{path}: not a red-team report", found, "give the redteam.json of a run") from error
    wrong = [name for name, value in values.items() if not name.startswith(PREFIXES) or not math.isfinite(value)]
    if wrong or not values:
        raise UserError(
            f"{path}: not a red-team report", f"the metric {', '.join(wrong)[:80] or '(none)'}", "run it again"
        )
    return digest, values

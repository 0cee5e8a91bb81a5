"""Record the clock readings of stages (seconds, tokens per second, MFU), which are kept apart from metrics in
var/timings/<stage>.json."""

from __future__ import annotations

import json
from pathlib import Path

import xxhash

from pipeline.frame.metrics import write_json

TIMINGS = Path("var/timings")

_readings: dict[str, float] = {}  # of the stage that is running


def start_timings() -> None:
    """Forget the readings of a stage that ran earlier in this process."""
    _readings.clear()


def report_timings(**readings: float) -> None:
    """Record clock readings of the running stage (seconds, tokens per second, MFU), which no metric or artifact may contain."""
    _readings.update(readings)


def read_timings(path: Path, metrics_path: Path) -> dict[str, float]:
    """Return the clock readings of the run that wrote `metrics_path`; {} if that run took place elsewhere or is not the latest
    one."""
    if not path.exists() or not metrics_path.exists():
        return {}
    readings = json.loads(path.read_text(encoding="utf-8"))
    return readings if readings.pop("metrics_xxh3") == _hash_file(metrics_path) else {}


def write_timings(stage: str, metrics_path: Path, seconds: float) -> None:
    """Write the recorded readings and the `seconds` of the whole stage, with a hash of the metrics that they belong to."""
    write_json(TIMINGS / f"{stage}.json", {"seconds": seconds, **_readings, "metrics_xxh3": _hash_file(metrics_path)})


def _hash_file(path: Path) -> str:
    return xxhash.xxh3_128_hexdigest(path.read_bytes())

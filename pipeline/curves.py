"""python -m pipeline.curves NAME KEY < steps.jsonl: the curves of a run that goes on, in MLflow, while it goes on.

In: the growing file of pipeline/live.py on standard input. Out: metrics of one MLflow run per KEY; a run that was killed and goes
on goes on there too. Training starts it as a process of its own where MLFLOW_TRACKING_URI names a server, and does not wait for it
while it runs: a server that is away, slow or broken costs nothing, and is said once. It ends by itself when training has ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

from model.train import StepRecord

EXPERIMENT = "minigpt-live"
POINTS_A_BATCH = 1000  # MLflow's limit
POLL_SECONDS = 2.0
END = {"end": True}  # the last line of a run that ended well


Point = tuple[str, float, int]  # name, value, step


class Tail:
    """The whole lines that a growing file has had since the last look."""

    def __init__(self, file: IO[str]) -> None:
        self._file, self._rest = file, ""

    def lines(self) -> list[str]:
        *whole, self._rest = (self._rest + self._file.read()).split("\n")
        return whole


def points_of(record: StepRecord) -> list[Point]:
    """Every figure of a step but the step."""
    values = {name: value for name, value in record.to_dict().items() if isinstance(value, int | float)}
    return [(name, float(value), record.step) for name, value in values.items() if name != "step"]


def follow(
    tail: Tail,
    send: Callable[[list[Point]], None],
    *,
    is_over: Callable[[], bool],
    wait: Callable[[], None] = lambda: time.sleep(POLL_SECONDS),
) -> bool:
    """Sends what comes, until the run ends; whether it ended well."""
    while True:
        was_over = is_over()  # asked before reading: what was written before the end is not missed
        rows: list[dict[str, Any]] = [json.loads(line) for line in tail.lines()]
        points = [point for row in rows if row != END for point in points_of(StepRecord.from_dict(row))]
        for part in _batches(points):
            send(part)
        if rows and rows[-1] == END:  # an earlier one is of a start that had to be repeated
            return True
        if was_over:
            return False
        wait()


def _batches(points: list[Point]) -> Iterable[list[Point]]:
    return (points[start : start + POINTS_A_BATCH] for start in range(0, len(points), POINTS_A_BATCH))


def live_run(name: str, key: str) -> tuple[Callable[[list[Point]], None], Callable[[str], None]]:
    """How to log to the run of this key on the tracking server, new or going on, and how to end it."""
    from pipeline.registry import tracking_client

    client, metric = tracking_client()
    found = client.get_experiment_by_name(EXPERIMENT)
    place = found.experiment_id if found else client.create_experiment(EXPERIMENT)
    before = client.search_runs([place], f"tags.run_key = '{key}'")
    run = before[0] if before else client.create_run(place, run_name=name, tags={"run_key": key})
    client.update_run(run.info.run_id, status="RUNNING")

    def log(points: list[Point]) -> None:
        now = int(time.time() * 1000)
        client.log_batch(run.info.run_id, metrics=[metric(what, value, now, step) for what, value, step in points])

    return log, lambda status: client.set_terminated(run.info.run_id, status)


def main(argv: list[str]) -> int:
    """Follows the parent process's run; 0 whatever the server does."""
    name, key = argv
    parent, tail = os.getppid(), Tail(sys.stdin)
    try:
        log, end = live_run(name, key)
        is_whole = follow(tail, log, is_over=lambda: os.getppid() != parent)
        end("FINISHED" if is_whole else "KILLED")
    except Exception as error:  # whatever a client of a server may raise: training must not hear of it
        said = str(error).strip().partition("\n")[0]
        print(f"{name}: no live curves in MLflow ({type(error).__name__}: {said})", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Run by test_engine.py: two workers that say their pid and sleep."""

from __future__ import annotations

import os
import time

from pipeline.engine import map_shards


def report_and_sleep(_: int) -> None:
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece: both write to the same pipe
    time.sleep(60)


if __name__ == "__main__":
    list(map_shards(report_and_sleep, range(2)))

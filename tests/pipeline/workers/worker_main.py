"""Start two workers that print their pid and sleep: run by test_map.py."""

from __future__ import annotations

import os
import sys
import time

from pipeline.workers.map import map_shards

SECONDS = float(sys.argv[1]) if sys.argv[1:] else 60.0  # workers import this file with the same arguments


def report_and_sleep(_: int) -> None:
    os.write(1, f"{os.getpid()}\n".encode())  # in one piece: both write to the same pipe
    time.sleep(SECONDS)


if __name__ == "__main__":
    list(map_shards(report_and_sleep, range(2)))

"""Where a map over shards runs: in this process, in a pool of processes, on Dask or on Ray. The same bytes come out of each.

`--engine` or `MINIGPT_ENGINE` = serial | process | dask | ray; `MINIGPT_WORKERS` = number of processes (default: the cores there
are); `MINIGPT_CLUSTER` = address of a running Dask scheduler or Ray cluster (default: one is started on this machine and ends with
the stage). Results come back in the order of the items, whichever finishes first; at most two items a worker are under way,
which bounds memory. What a killed worker had in hand is done again by another. A local worker dies with its parent, also by
kill -9 (Linux).
"""

from __future__ import annotations

from pipeline.engine.files import N_HERE, file_key, map_files
from pipeline.engine.maps import ENGINES, map_shards, worker_count
from pipeline.engine.processes import die_with_parent, follow_parent

__all__ = [
    "ENGINES",
    "N_HERE",
    "die_with_parent",
    "file_key",
    "follow_parent",
    "map_files",
    "map_shards",
    "worker_count",
]

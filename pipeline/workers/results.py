"""Map files to result files, each stored under a hash of everything that it depends on, so that nothing is computed twice.

Only file names are sent to the workers. Where they can't access this machine's files, `MINIGPT_SHARE` names a location that all can
access, a folder or an fsspec URL such as s3://bucket/prefix: inputs are uploaded to it and results fetched from it by content hash.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import xxhash
from fsspec.core import url_to_fs

from pipeline.frame.environment import read
from pipeline.workers.map import check_environment, map_shards

# Files that this process maps itself: starting workers takes as long, and they then find the compiled kernels in the cache.
N_HERE = 6


class Job(NamedTuple):
    """Describe one file to make: `function(path, result, *extras)`."""

    path: Path
    result: Path
    extras: tuple[Path, ...]


def map_files(
    function: Callable[..., None], paths: Sequence[Path], *, results: Path, settings: str, extras: Sequence[Path] = ()
) -> Iterator[Path]:
    """Yield one result file for each path, in order; `function(path, result, *extras)` writes it.

    A result is named by a hash of the bytes of the path and the extras and of `settings` (whatever else it depends on, as
    text): a result that a stopped run finished in the folder `results` is reused, wherever the path is in the list now. A
    half-written result is never visible.
    """
    check_environment()  # few files never reach the workers; a misspelled engine is an error all the same
    results.mkdir(parents=True, exist_ok=True)
    settings = "\0".join([settings, *(hash_file(extra, "") for extra in extras)])
    jobs = [Job(path.resolve(), results.resolve() / hash_file(path, settings), tuple(extras)) for path in paths]
    todo = [job for job in {job.result: job for job in jobs}.values() if not job.result.exists()]
    made = chain(map(partial(_make, function), todo[:N_HERE]), _map_jobs(function, todo[N_HERE:]))
    for job in jobs:
        while not job.result.exists():
            next(made)
        yield job.result


def hash_file(path: Path, settings: str) -> str:
    """Return 32 hex digits: a hash of the bytes of the file together with the settings."""
    digest = xxhash.xxh3_128(settings.encode())
    with path.open("rb") as file:
        hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def _make(function: Callable[..., None], job: Job) -> None:
    half = job.result.with_name(f"{job.result.name}.{os.getpid()}.partial")
    try:
        function(job.path, half, *job.extras)
        half.replace(job.result)
    finally:
        half.unlink(missing_ok=True)


def _map_jobs(function: Callable[..., None], jobs: Sequence[Job]) -> Iterator[None]:
    """Make the files of all jobs on the workers, through the share if there is one."""
    share = read("MINIGPT_SHARE")
    if not share:
        yield from map_shards(partial(_make, function), jobs)
        return
    system, root = url_to_fs(share)
    sent = ((job, _upload(system, root, job)) for job in jobs)
    waiting: deque[Job] = deque()

    def upload() -> Iterator[Job]:
        for job, shared in sent:
            waiting.append(job)
            yield shared

    for remote in map_shards(partial(_make_on_share, function, share), upload()):
        job = waiting.popleft()
        half = job.result.with_name(f"{job.result.name}.{os.getpid()}.partial")
        system.get(remote, str(half))
        half.replace(job.result)
        yield None


def _upload(system: Any, root: str, job: Job) -> Job:
    """Upload the files of a job and return it with their paths on the share, each in a folder named by the hash of its content; a
    file that is already there is not sent again."""
    shared: list[Path] = []
    for path in (job.path, *job.extras):
        folder = f"{root}/inputs/{hash_file(path, '')}"
        there = f"{folder}/{path.name}"
        if not system.exists(there):
            system.makedirs(folder, exist_ok=True)
            system.put(str(path), there)
        shared.append(Path(there))
    return Job(shared[0], Path(f"{root}/results/{job.result.name}"), tuple(shared[1:]))


def _make_on_share(function: Callable[..., None], share: str, job: Job) -> str:
    """Fetch the files, make the result and upload it, in a worker. Return the path of the result on the share."""
    system, root = url_to_fs(share)
    if not system.exists(str(job.result)):
        with tempfile.TemporaryDirectory() as folder:
            for path in (job.path, *job.extras):
                system.get(str(path), str(Path(folder) / path.name))
            made = Path(folder) / "result"
            function(Path(folder) / job.path.name, made, *(Path(folder) / extra.name for extra in job.extras))
            system.makedirs(f"{root}/results", exist_ok=True)
            half = f"{job.result}.{os.getpid()}.partial"
            system.put(str(made), half)
            system.mv(half, str(job.result))
    return str(job.result)

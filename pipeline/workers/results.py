"""Files to files: one result for each input, kept under a hash of what it was made from, so that nothing is made twice.

Only names of files travel to the workers. Where they do not see this machine's files, `MINIGPT_SHARE` names a place that all see, a
folder or an fsspec URL such as s3://bucket/prefix: inputs are put there and results fetched from there, by their content's hash.
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

from pipeline.workers.map import check_environment, map_shards

# Files that this process does itself: starting workers takes as long, and they find the kernels compiled.
N_HERE = 6


class Job(NamedTuple):
    """One file to make: `function(path, result, *extras)`."""

    path: Path
    result: Path
    extras: tuple[Path, ...]


def map_files(
    function: Callable[..., None], paths: Sequence[Path], *, results: Path, settings: str, extras: Sequence[Path] = ()
) -> Iterator[Path]:
    """`function(path, result, *extras)` writes one result file for each path; yields these files in the order of the paths.

    A result is named by a hash of the bytes of the path and the extras and of `settings` (whatever else it depends on, as
    text): what a stopped run has finished in the folder `results` is found there and not made again, wherever the path
    stands in the list now. A half-written result never shows.
    """
    check_environment()  # few files never meet the workers; a misspelt engine is an error all the same
    results.mkdir(parents=True, exist_ok=True)
    settings = "\0".join([settings, *(file_key(extra, "") for extra in extras)])
    jobs = [Job(path.resolve(), results.resolve() / file_key(path, settings), tuple(extras)) for path in paths]
    todo = [job for job in {job.result: job for job in jobs}.values() if not job.result.exists()]
    made = chain(map(partial(_make, function), todo[:N_HERE]), _map_jobs(function, todo[N_HERE:]))
    for job in jobs:
        while not job.result.exists():
            next(made)
        yield job.result


def file_key(path: Path, settings: str) -> str:
    """32 hex digits that name the bytes of the file together with the settings."""
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
    """Makes the files of all jobs on the workers, by way of the share if there is one."""
    share = os.environ.get("MINIGPT_SHARE", "")
    if not share:
        yield from map_shards(partial(_make, function), jobs)
        return
    system, root = url_to_fs(share)
    sent = ((job, _put(system, root, job)) for job in jobs)
    waiting: deque[Job] = deque()

    def far() -> Iterator[Job]:
        for job, shared in sent:
            waiting.append(job)
            yield shared

    for found in map_shards(partial(_make_far, function, share), far()):
        job = waiting.popleft()
        half = job.result.with_name(f"{job.result.name}.{os.getpid()}.partial")
        system.get(found, str(half))
        half.replace(job.result)
        yield None


def _put(system: Any, root: str, job: Job) -> Job:
    """The job with its files on the share, each in a folder named by its content's hash; what is there is not sent again."""
    shared: list[Path] = []
    for path in (job.path, *job.extras):
        folder = f"{root}/inputs/{file_key(path, '')}"
        there = f"{folder}/{path.name}"
        if not system.exists(there):
            system.makedirs(folder, exist_ok=True)
            system.put(str(path), there)
        shared.append(Path(there))
    return Job(shared[0], Path(f"{root}/results/{job.result.name}"), tuple(shared[1:]))


def _make_far(function: Callable[..., None], share: str, job: Job) -> str:
    """On a worker: fetch, make, put. Returns the result's name on the share."""
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

"""Source `huggingface`: files of a dataset or model repository on the Hugging Face hub, at one commit.

In: a repository, a revision, globs of file names (`*` matches folders too, as everywhere on the hub). Out: the documents of
these files; the record of the source has the commit that the revision means, and each file's size and hash. A branch or tag is
looked up at each run; a commit whose files are here needs no network. Files are kept below `MINIGPT_FETCHED`/huggingface and
checked against the hub's hash each time they are used. The token is the hub library's own (HF_TOKEN) and never shown.
Memory and time: those of the format's reader.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import xxhash
from huggingface_hub import HfApi, RepoFile, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]  (of the HTTP client that the library happens to use)
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, tqdm

from pipeline.download.params import HuggingFace
from pipeline.download.readers import fetch
from pipeline.download.readers.document import Reading
from pipeline.download.readers.fetch import RETRIED, ByteTally, Result, fetched_folder, gather
from pipeline.download.readers.formats import Local, open_local
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import write_json
from pipeline.frame.progress import Bar

HUB = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
N_AT_ONCE = 4
N_SHOWN = 5
BLOCK_BYTES = 1 << 22
NO_NETWORK = (OfflineModeIsEnabled, LocalEntryNotFoundError, HTTPError, OSError)


class HubFile(NamedTuple):
    """A file of the repository; `oid` is the sha256 of a large file, the Git blob id of a small one."""

    path: str
    n_bytes: int
    oid: str


class Listing(NamedTuple):
    """All files of a repository at one commit."""

    commit: str
    files: list[HubFile]


def open_source(params: HuggingFace, setting: str) -> Reading:
    """Fetches the files. Raises `UserError` for a repository, revision or file that can't be had."""
    folder = fetched_folder() / "huggingface"
    try:
        listing = _listing(params, folder)
        chosen = _chosen(params, listing, setting)
        paths = _fetch(params, listing.commit, chosen, folder)
    except GatedRepoError as error:
        todo = "accept its terms on its page, and set HF_TOKEN"
        raise UserError(
            f"{setting}.repo: access to {params.repo} has to be granted", _first_line(error), todo
        ) from error
    except RepositoryNotFoundError as error:
        todo = "correct repo and repo_type; for a private one set HF_TOKEN"
        raise UserError(
            f"{setting}.repo: no such {params.repo_type}: {params.repo}", _first_line(error), todo
        ) from error
    except RevisionNotFoundError as error:
        what = f"{setting}.revision: {params.repo} has no {params.revision}"
        raise UserError(what, _first_line(error), "name a branch, a tag or a commit") from error
    except HFValidationError as error:
        raise UserError(f"{setting}.repo: not a name on the hub", _first_line(error), "name it owner/name") from error
    except HfHubHTTPError as error:
        raise UserError(
            f"{setting}: {params.repo} can't be fetched", _first_line(error), "run it again later"
        ) from error
    except NO_NETWORK as error:
        todo = "connect to it and run again; without a network, a revision that is a commit fetched before can be read"
        raise UserError(f"{setting}: the hub can't be reached for {params.repo}", _first_line(error), todo) from error
    return open_local(
        params, setting, [_local(params, listing.commit, *pair) for pair in zip(chosen, paths, strict=True)]
    )


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _listing(params: HuggingFace, folder: Path) -> Listing:
    """The files at the commit that the revision means; from here, where it is a commit that was listed before."""
    if COMMIT.fullmatch(params.revision) and (path := _listing_path(params, params.revision, folder)).exists():
        commit, files = json.loads(path.read_text(encoding="utf-8"))["listing"]
        return Listing(commit, [HubFile(*file) for file in files])
    listing = _patiently(lambda: _ask(params))
    write_json(_listing_path(params, listing.commit, folder), {"listing": listing})
    return listing


def _ask(params: HuggingFace) -> Listing:
    api = HfApi(endpoint=_endpoint())
    commit = api.repo_info(params.repo, repo_type=params.repo_type, revision=params.revision).sha or ""
    tree = api.list_repo_tree(params.repo, recursive=True, repo_type=params.repo_type, revision=commit)
    files = [
        HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in tree
        if isinstance(entry, RepoFile)
    ]
    return Listing(commit, sorted(files))


def _patiently(ask: Callable[[], Result]) -> Result:
    """The library repeats what it downloads, but not its questions; and not the question before a download."""
    policy = fetch.POLICY
    for n_failures in range(1, policy.max_failures):
        try:
            return ask()
        except (HTTPError, LocalEntryNotFoundError) as error:
            response = error.response if isinstance(error, HfHubHTTPError) else None
            if response is not None and response.status_code not in RETRIED:
                raise
        time.sleep(min(policy.backoff_seconds * 2 ** (n_failures - 1), policy.max_wait_seconds))
    return ask()


def _listing_path(params: HuggingFace, commit: str, folder: Path) -> Path:
    return folder / f"{xxhash.xxh3_128_hexdigest(f'{params.repo_type} {params.repo} {commit}'.encode())}.json"


def _chosen(params: HuggingFace, listing: Listing, setting: str) -> list[HubFile]:
    for position, glob in enumerate(params.files):
        if not any(fnmatch.fnmatchcase(file.path, glob) for file in listing.files):
            names = ", ".join(file.path for file in listing.files[:N_SHOWN])
            raise UserError(
                f"{setting}.files.{position}: no file of {params.repo} matches {glob!r}",
                f"{len(listing.files)} files at {listing.commit}: {names} …",
                "correct the glob, or remove it",
            )
    return [file for file in listing.files if any(fnmatch.fnmatchcase(file.path, glob) for glob in params.files)]


def _fetch(params: HuggingFace, commit: str, files: list[HubFile], folder: Path) -> list[Path]:
    """The files' places here, in their order."""
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()  # ours is one for all files
    tally = ByteTally()
    try:
        with (
            ThreadPoolExecutor(N_AT_ONCE) as pool,
            Bar("download: fetching", sum(f.n_bytes for f in files), "bytes") as bar,
        ):
            try:
                return gather(
                    tally, [pool.submit(_fetch_one, params, commit, folder, tally, file) for file in files], bar
                )
            finally:
                tally.stop.set()
    finally:
        if had_bars:
            enable_progress_bars()


def _fetch_one(params: HuggingFace, commit: str, folder: Path, tally: ByteTally, file: HubFile) -> Path:
    for is_forced in (False, True):
        tally.pause(0.0)
        counted = [0]
        download = partial(
            hf_hub_download,
            params.repo,
            file.path,
            repo_type=params.repo_type,
            revision=commit,
            cache_dir=folder,
            force_download=is_forced,
            endpoint=_endpoint(),
            tqdm_class=_counting(tally, counted),
        )
        path = Path(_patiently(lambda download=download: download()))
        oid = _oid(path, file)
        if oid == file.oid:
            tally.count(file.n_bytes - counted[0])  # of a file that was here nothing has been counted
            return path
        tally.count(-counted[0])
        print(f"download: {path} is not what the hub has; it is fetched again", flush=True)
    raise UserError(
        f"{params.name}: {file.path} of {params.repo} can't be fetched",
        f"a file with the hash {oid}, the hub lists {file.oid}",
        "run it again later, or name another revision",
    )


def _counting(tally: ByteTally, counted: list[int]) -> type[tqdm]:
    """A bar for the hub's library that shows nothing and tells `tally`."""

    class Counting(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            counted[0] += int(n or 0)
            tally.count(int(n or 0))
            return super().update(n)

    return Counting


def _oid(path: Path, file: HubFile) -> str:
    """The hash of the file here, of the kind that the hub gives for it."""
    is_large = len(file.oid) == 64
    digest = (
        hashlib.sha256() if is_large else hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    )
    with path.open("rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _local(params: HuggingFace, commit: str, file: HubFile, path: Path) -> Local:
    kind = "datasets/" if params.repo_type == "dataset" else ""
    pinned = {"repo": params.repo, "repo_type": params.repo_type, "revision": params.revision, "commit": commit}
    origin = {**pinned, "path": file.path, "bytes": file.n_bytes, "oid": file.oid}
    where = {"repo": params.repo, "path": file.path}  # no commit: the same text of the next one is the same document
    return Local(path, where, f"{HUB}/{kind}{params.repo}/resolve/{commit}/{file.path}", origin)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"

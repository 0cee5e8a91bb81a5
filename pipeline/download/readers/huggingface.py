"""Read the source `huggingface`: files of a dataset or model repository on the Hugging Face hub, at one commit.

In: a repository, a revision, globs of file names (`*` matches folders too, as everywhere on the hub). Out: the documents of
these files; the provenance record has the commit that the revision resolves to, and each file's size and hash. A branch or tag
is resolved at each run; a commit whose files are cached needs no network. Files are cached below `MINIGPT_FETCHED`/huggingface
and verified against the hub's hash each time they are used. The token is that of the hub library (HF_TOKEN) and never shown.
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
    HTTPError,  # pyright: ignore[reportPrivateImportUsage]  (of the HTTP client that the library uses)
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, tqdm

from pipeline.download.params import HuggingFace
from pipeline.download.readers import fetch
from pipeline.download.readers.document import Reading
from pipeline.download.readers.fetch import RETRIED, ByteTally, Result, gather, get_fetched_folder
from pipeline.download.readers.formats import Local, open_local
from pipeline.frame.errors import UserError
from pipeline.frame.metrics import write_json
from pipeline.frame.progress import Bar

HUB = "https://huggingface.co"
COMMIT = re.compile(r"[0-9a-f]{40}")
N_THREADS = 4
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
    """Fetch the files and open them. Raise `UserError` for a repository, revision or file that cannot be fetched."""
    folder = get_fetched_folder() / "huggingface"
    try:
        listing = _load_listing(params, folder)
        files = _select_files(params, listing, setting)
        paths = _fetch_files(params, listing.commit, files, folder)
    except GatedRepoError as error:
        todo = "accept its terms on its page, and set HF_TOKEN"
        raise UserError(
            f"{setting}.repo: no access to the gated repository {params.repo}", _get_first_line(error), todo
        ) from error
    except RepositoryNotFoundError as error:
        todo = "correct repo and repo_type; for a private one set HF_TOKEN"
        raise UserError(
            f"{setting}.repo: no such {params.repo_type}: {params.repo}", _get_first_line(error), todo
        ) from error
    except RevisionNotFoundError as error:
        what = f"{setting}.revision: {params.repo} has no {params.revision}"
        raise UserError(what, _get_first_line(error), "use a branch, a tag or a commit") from error
    except HFValidationError as error:
        raise UserError(
            f"{setting}.repo: not a valid repository name", _get_first_line(error), "write it as owner/name"
        ) from error
    except HfHubHTTPError as error:
        raise UserError(f"{setting}: cannot fetch {params.repo}", _get_first_line(error), "run again later") from error
    except NO_NETWORK as error:
        todo = "check the network and run again; offline, only a revision that is a commit fetched before can be read"
        raise UserError(f"{setting}: cannot reach the hub for {params.repo}", _get_first_line(error), todo) from error
    return open_local(
        params, setting, [_make_local(params, listing.commit, *pair) for pair in zip(files, paths, strict=True)]
    )


def _get_endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _load_listing(params: HuggingFace, folder: Path) -> Listing:
    """Return the files at the commit that the revision resolves to; from the cache if it is a commit that was listed before."""
    if COMMIT.fullmatch(params.revision) and (path := _get_listing_path(params, params.revision, folder)).exists():
        commit, files = json.loads(path.read_text(encoding="utf-8"))["listing"]
        return Listing(commit, [HubFile(*file) for file in files])
    listing = _retry(lambda: _request_listing(params))
    write_json(_get_listing_path(params, listing.commit, folder), {"listing": listing})
    return listing


def _request_listing(params: HuggingFace) -> Listing:
    api = HfApi(endpoint=_get_endpoint())
    commit = api.repo_info(params.repo, repo_type=params.repo_type, revision=params.revision).sha or ""
    tree = api.list_repo_tree(params.repo, recursive=True, repo_type=params.repo_type, revision=commit)
    files = [
        HubFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id)
        for entry in tree
        if isinstance(entry, RepoFile)
    ]
    return Listing(commit, sorted(files))


def _retry(request: Callable[[], Result]) -> Result:
    """Retry a request with exponential backoff. The library retries downloads only, not the metadata requests before them."""
    policy = fetch.POLICY
    for n_failures in range(1, policy.max_failures):
        try:
            return request()
        except (HTTPError, LocalEntryNotFoundError) as error:
            response = error.response if isinstance(error, HfHubHTTPError) else None
            if response is not None and response.status_code not in RETRIED:
                raise
        time.sleep(min(policy.backoff_seconds * 2 ** (n_failures - 1), policy.max_wait_seconds))
    return request()


def _get_listing_path(params: HuggingFace, commit: str, folder: Path) -> Path:
    return folder / f"{xxhash.xxh3_128_hexdigest(f'{params.repo_type} {params.repo} {commit}'.encode())}.json"


def _select_files(params: HuggingFace, listing: Listing, setting: str) -> list[HubFile]:
    """Return the files that match a glob. Raise `UserError` for a glob without a match."""
    for position, glob in enumerate(params.files):
        if not any(fnmatch.fnmatchcase(file.path, glob) for file in listing.files):
            names = ", ".join(file.path for file in listing.files[:N_SHOWN])
            raise UserError(
                f"{setting}.files.{position}: no file of {params.repo} matches {glob!r}",
                f"{len(listing.files)} files at {listing.commit}: {names} …",
                "correct the glob, or remove it",
            )
    return [file for file in listing.files if any(fnmatch.fnmatchcase(file.path, glob) for glob in params.files)]


def _fetch_files(params: HuggingFace, commit: str, files: list[HubFile], folder: Path) -> list[Path]:
    """Fetch the files and return their local paths, in their order."""
    had_bars = not are_progress_bars_disabled()
    disable_progress_bars()  # one progress bar of our own covers all files
    tally = ByteTally()
    try:
        with (
            ThreadPoolExecutor(N_THREADS) as pool,
            Bar("download: fetching", sum(f.n_bytes for f in files), "bytes") as bar,
        ):
            try:
                return gather(
                    tally, [pool.submit(_fetch_file, params, commit, folder, tally, file) for file in files], bar
                )
            finally:
                tally.stop.set()
    finally:
        if had_bars:
            enable_progress_bars()


def _fetch_file(params: HuggingFace, commit: str, folder: Path, tally: ByteTally, file: HubFile) -> Path:
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
            endpoint=_get_endpoint(),
            tqdm_class=_make_counter(tally, counted),
        )
        path = Path(_retry(lambda download=download: download()))
        oid = _compute_oid(path, file)
        if oid == file.oid:
            tally.count(file.n_bytes - counted[0])  # nothing has been counted for a cached file
            return path
        tally.count(-counted[0])
        print(f"download: {path} does not match the hub's hash; fetching it again", flush=True)
    raise UserError(
        f"{params.name}: cannot fetch {file.path} of {params.repo}",
        f"a file with the hash {oid}, the hub lists {file.oid}",
        "run again later, or use another revision",
    )


def _make_counter(tally: ByteTally, counted: list[int]) -> type[tqdm]:
    """Return an invisible progress bar for the hub's library that counts into `tally`."""

    class Counter(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            counted[0] += int(n or 0)
            tally.count(int(n or 0))
            return super().update(n)

    return Counter


def _compute_oid(path: Path, file: HubFile) -> str:
    """Return the hash of the local file, of the kind that the hub lists for it."""
    is_large = len(file.oid) == 64
    digest = (
        hashlib.sha256() if is_large else hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    )
    with path.open("rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _make_local(params: HuggingFace, commit: str, file: HubFile, path: Path) -> Local:
    kind = "datasets/" if params.repo_type == "dataset" else ""
    pinned = {"repo": params.repo, "repo_type": params.repo_type, "revision": params.revision, "commit": commit}
    origin = {**pinned, "path": file.path, "bytes": file.n_bytes, "oid": file.oid}
    where = {"repo": params.repo, "path": file.path}  # no commit: the same text at a later commit is the same document
    return Local(path, where, f"{HUB}/{kind}{params.repo}/resolve/{commit}/{file.path}", origin)


def _get_first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"

"""Fetch files behind http(s) URLs once, completely, verify them, and keep them in a cache.

In: URLs, some with their sha256. Out: local files with their metadata. Each cached file has a folder below `MINIGPT_FETCHED`
(default var/fetched), named by URL and sha256, or URL and entity tag; a partial download is a `.partial` file there and is
resumed (Range, If-Range), also by a later run. Two processes wait for each other.
Covers: interrupted and stalled connections, 408 425 429 5xx with Retry-After, servers without Range or HEAD, files that change
during the download, mirrors behind one name that tag the same file differently (same date and length), wrong lengths, wrong hashes,
content codings that were not requested, redirects away from http(s), tokens in URLs (never shown or written). Does not cover: a
server that sends a byte now and then forever; a file without sha256, entity tag and date that changes without changing its
length; a URL that leads into a private network. Memory: one block per file in progress. Time: O(n).
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import httpx
import xxhash

from pipeline.download.readers.fetched_file import Entry, Fetched, RemoteFile, hash_file, list_versions
from pipeline.download.readers.responses import (
    DECODED,
    parse_codings,
    parse_range_start,
    parse_remote,
    parse_retry_after,
)
from pipeline.frame.environment import read
from pipeline.frame.errors import UserError
from pipeline.frame.progress import Bar
from pipeline.storage.streams import BROKEN, BombError

Result = TypeVar("Result")

RETRIED = {408, 425, 429, 500, 502, 503, 504, 509, *range(520, 600)}
BUSY = {408, 425, 429}  # another request would not be answered either; after any other error of a HEAD, a GET is tried
MAX_REDIRECTS = 5
PLAIN_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "MiniGPT"}
SECRET = re.compile(r"token|key|secret|sig|auth|pass|credential|session|jwt", re.IGNORECASE)
MAX_SHOWN_CHARS = 24  # a longer value in a URL may be a secret under another name


@dataclass(frozen=True)
class RetryPolicy:
    """Limits for retries and timeouts. Failures are counted until new bytes arrive."""

    n_threads: int = 4
    max_failures: int = 6
    backoff_seconds: float = 0.5  # doubled after each failure
    max_wait_seconds: float = 120.0  # also where Retry-After asks for more
    connect_seconds: float = 10.0
    stall_seconds: float = 30.0


POLICY = RetryPolicy()


class Address(NamedTuple):
    """The location of a file; `sha256` and `file_name` may be empty."""

    url: str
    sha256: str = ""
    file_name: str = ""


class _RetryError(Exception):
    """Raised when an attempt failed and the next one may succeed."""

    def __init__(self, detail: str, wait_seconds: float = 0.0) -> None:
        super().__init__(detail)
        self.wait_seconds = wait_seconds


class _ChangedError(Exception):
    """Raised when the remote file is a different version than before."""

    def __init__(self, remote: RemoteFile) -> None:
        super().__init__("the file keeps changing while it is fetched")
        self.remote = remote


class StoppedError(Exception):
    """Raised in a thread after another file failed."""


class ByteTally:
    """The number of bytes received by all threads, and a flag that stops them."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.n_bytes = 0
        self._lock = threading.Lock()

    def count(self, n_bytes: int) -> None:
        """Add to the total. Raise `StoppedError` if the threads have to stop."""
        with self._lock:
            self.n_bytes += n_bytes
        self.pause(0.0)

    def pause(self, seconds: float) -> None:
        """Wait. Raise `StoppedError` if the threads have to stop."""
        if self.stop.wait(seconds):
            raise StoppedError


def get_fetched_folder() -> Path:
    """Return the folder of the cache."""
    return Path(read("MINIGPT_FETCHED"))


def mask_secrets(url: str) -> str:
    """Return the URL without user and password, and with likely secrets in its query masked."""
    parts = urlsplit(url)
    shown = [
        (name, "***" if SECRET.search(name) or len(value) > MAX_SHOWN_CHARS else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(shown, safe="*"), ""))


def fetch_all(
    addresses: Sequence[Address], setting: str, folder: Path, policy: RetryPolicy | None = None
) -> list[Fetched]:
    """Fetch the files and return them in the order of their URLs. Raise `UserError` that names the URL that cannot be fetched."""
    policy = policy or POLICY
    tally = ByteTally()
    with _Fetcher(setting, folder, policy, tally) as fetcher, ThreadPoolExecutor(policy.n_threads) as pool:
        try:
            remotes = gather(tally, [pool.submit(fetcher.probe, address) for address in addresses])
            sizes = [remote.n_bytes for remote in remotes]
            with Bar("download: fetching", 0 if min(sizes) < 0 else sum(sizes), "bytes") as bar:
                pairs = zip(addresses, remotes, strict=True)
                return gather(tally, [pool.submit(fetcher.fetch, *pair) for pair in pairs], bar)
        finally:
            tally.stop.set()


def gather(tally: ByteTally, futures: list[Future[Result]], bar: Bar | None = None) -> list[Result]:
    """Return the results of the threads. After a failure the others stop, and the first error in order is raised."""
    shown, waiting = 0, set(futures)
    while waiting:
        done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_EXCEPTION)
        if any(future.exception() for future in done):
            tally.stop.set()
        n_bytes = tally.n_bytes
        if bar and n_bytes != shown:
            bar.advance(n_bytes - shown)
            shown = n_bytes
    for future in futures:
        if (error := future.exception()) and not isinstance(error, StoppedError):
            raise error
    return [future.result() for future in futures]


class _Fetcher:
    """An HTTP client with its retry policy; used by several threads."""

    def __init__(self, setting: str, folder: Path, policy: RetryPolicy, tally: ByteTally) -> None:
        self.setting, self.folder, self.policy, self.tally = setting, folder, policy, tally
        for name in ("httpx", "httpcore"):  # they log complete URLs, including secrets
            logging.getLogger(name).setLevel(logging.WARNING)
        timeout = httpx.Timeout(policy.stall_seconds, connect=policy.connect_seconds)
        self.client = httpx.Client(timeout=timeout, headers=PLAIN_HEADERS)
        self._versions: dict[str, list[tuple[RemoteFile, Path]]] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> _Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def probe(self, address: Address) -> RemoteFile:
        """Return size and validators; without a request if the sha256 is declared and the file is cached."""
        cached = self._make_entry(address, RemoteFile()).load_fetched() if address.sha256 else None
        if cached:
            return RemoteFile(cached.validators, cached.n_bytes)
        return self._retry(address, lambda: self._request_head(address))

    def _request_head(self, address: Address) -> RemoteFile:
        try:
            with self._open_response("HEAD", address, {}) as response:
                if response.status_code == 200 or response.status_code in BUSY:
                    self._check_response(address, response)
                    return parse_remote(response.status_code, response.headers)
        except httpx.HTTPError:
            pass  # some servers close the connection at a HEAD
        with self._open_response("GET", address, {}) as response:
            self._check_response(address, response)
            return parse_remote(response.status_code, response.headers)

    def _make_entry(self, address: Address, remote: RemoteFile) -> Entry:
        """Return the folder of this version of the file: where it is already, under whatever mirror's tag, or a new one."""
        shown = mask_secrets(address.url)
        name = address.file_name or re.sub(r"[^\w.-]", "_", unquote(urlsplit(address.url).path).rpartition("/")[2])
        name = name[-120:] or "file"
        version = address.sha256 or remote.validators.get_version() or f"length {remote.n_bytes}"
        folder = self.folder / xxhash.xxh3_128_hexdigest(f"{shown}\0{name}\0{version}".encode())
        if not address.sha256 and not folder.exists():
            for known, place in self._list_versions().get(shown, ()):
                if remote.is_same(known) and any((place / each).exists() for each in (name, f"{name}.partial")):
                    folder = place
        return Entry(folder, name, shown)

    def _list_versions(self) -> dict[str, list[tuple[RemoteFile, Path]]]:
        with self._lock:
            if self._versions is None:
                self._versions = {}
                for url, remote, place in list_versions(self.folder):
                    self._versions.setdefault(url, []).append((remote, place))
            return self._versions

    def fetch(self, address: Address, remote: RemoteFile) -> Fetched:
        """Return the file from the cache, or fetch it. A file of which each response is another version is taken as it comes: one
        complete response is one version."""
        expected: RemoteFile | None = remote
        for n_left in reversed(range(self.policy.max_failures)):
            entry = self._make_entry(address, remote)
            with entry.hold(self.tally.pause):
                if cached := entry.load_fetched():
                    self.tally.count(cached.n_bytes)
                    return cached
                try:
                    return self._fetch_version(address, expected, entry)
                except _ChangedError as error:
                    remote = error.remote
                    expected = remote if n_left > 1 else None
        raise AssertionError("without an expected version nothing changes")

    def _fetch_version(self, address: Address, expected: RemoteFile | None, entry: Entry) -> Fetched:
        was_resumed = entry.get_partial_bytes() > 0
        self.tally.count(entry.get_partial_bytes())
        complete, sha256, is_right = self._complete(address, expected, entry)
        if not is_right and was_resumed:  # it may have been part of another version
            self._discard(entry)
            complete, sha256, is_right = self._complete(address, expected, entry)
        if not is_right:
            self._discard(entry)
            found = f"sha256 {sha256}, declared {address.sha256}"
            raise self._make_error(address, found, "correct the sha256 if the new file is the one you want")
        return entry.finish(complete, sha256)

    def _complete(self, address: Address, expected: RemoteFile | None, entry: Entry) -> tuple[Path, str, bool]:
        """Fetch what is missing and decode it. Return (complete file, its sha256, whether that or what was sent is as declared)."""
        self._retry(address, lambda: self._attempt(address, expected, entry), entry.get_partial_bytes)
        try:
            complete = entry.decode_partial()
        except (*BROKEN, BombError) as error:
            coding = entry.load_remote().coding
            self._discard(entry)
            found = f"Content-Encoding that says {coding}, and a body that is not ({error})"
            raise self._make_error(address, found, "use another mirror") from error
        sha256 = hash_file(complete)
        is_right = address.sha256 in ("", sha256)
        return complete, sha256, is_right or (complete != entry.partial and hash_file(entry.partial) == address.sha256)

    def _discard(self, entry: Entry) -> None:
        self.tally.count(-entry.get_partial_bytes())
        entry.discard_partial()

    def _attempt(self, address: Address, expected: RemoteFile | None, entry: Entry) -> None:
        """Append the missing bytes to the partial file, or start it."""
        start, known = entry.get_partial_bytes(), entry.load_remote()
        if start == known.n_bytes > 0:
            return  # interrupted after the last byte
        headers: dict[str, str] = {}
        if start and ((condition := known.validators.get_strong()) or address.sha256):
            headers["Range"] = f"bytes={start}-"
            if condition:
                headers["If-Range"] = condition
        with self._open_response("GET", address, headers) as response:
            if response.status_code == 416:
                self._discard(entry)
                raise _RetryError("416: the file is shorter than its partial download")
            self._check_response(address, response)
            current = parse_remote(response.status_code, response.headers)
            if start and response.status_code == 206:
                is_resumed = known.is_same(current) and known.n_bytes in (-1, current.n_bytes)
                if parse_range_start(response.headers) != start or not is_resumed:
                    self._discard(entry)
                    raise _RetryError("the server sent a different range than requested")
            elif response.status_code == 206 and parse_range_start(response.headers):
                raise _RetryError("the server sent a range that was not requested")
            else:
                self._discard(entry)
                if expected and not address.sha256 and not expected.is_same(current):
                    raise _ChangedError(current)
                entry.begin(current.join(expected) if expected else current)
            self._receive(response, entry)
            if current.n_bytes >= 0 and entry.get_partial_bytes() != current.n_bytes:
                raise _RetryError(f"received {entry.get_partial_bytes()} of {current.n_bytes} declared bytes")

    def _receive(self, response: httpx.Response, entry: Entry) -> None:
        with entry.partial.open("ab") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                self.tally.count(len(chunk))

    @contextmanager
    def _open_response(
        self, method: str, address: Address, headers: Mapping[str, str]
    ) -> Generator[httpx.Response, None, None]:
        """Yield the response after redirects, with its body unread. Raise `UserError` for a redirect that is not followed."""
        request = self.client.build_request(method, address.url, headers=headers)
        for _ in range(MAX_REDIRECTS + 1):
            response = self.client.send(request, stream=True)
            target = response.next_request
            if target is None:
                try:
                    yield response
                finally:
                    response.close()
                return
            response.close()
            allowed = ("https",) if request.url.scheme == "https" else ("http", "https")
            if target.url.scheme not in allowed:
                raise self._make_error(
                    address, f"a redirect to {mask_secrets(str(target.url))}", "use a URL that stays on http(s)"
                )
            request = target
        raise self._make_error(address, f"more than {MAX_REDIRECTS} redirects", "use the final URL")

    def _check_response(self, address: Address, response: httpx.Response) -> None:
        """Raise the error for a response that is not the file."""
        status, retry_after = response.status_code, response.headers.get("Retry-After", "")
        if status in RETRIED or (status == 403 and retry_after):
            raise _RetryError(f"{status} {response.reason_phrase}", parse_retry_after(retry_after))
        if status not in (200, 206):
            raise self._make_error(address, f"{status} {response.reason_phrase}", "correct the URL, or remove it")
        codings = parse_codings(response.headers)
        if len(codings) > 1 or (codings and codings[0] not in DECODED):
            found = f"Content-Encoding: {', '.join(codings)}, which was not requested"
            raise self._make_error(address, found, "use another mirror")

    def _retry(self, address: Address, attempt: Callable[[], Result], reached: Callable[[], int] = lambda: 0) -> Result:
        """Repeat an attempt with exponential backoff. Raise `UserError` after too many failures without progress."""
        n_failures, furthest = 0, reached()
        while True:
            self.tally.pause(0.0)
            wait_seconds = 0.0
            try:
                return attempt()
            except _RetryError as error:
                problem, wait_seconds = str(error), error.wait_seconds
            except httpx.InvalidURL as error:
                raise self._make_error(address, str(error), "correct the URL") from error
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}".replace(address.url, mask_secrets(address.url))
            if reached() > furthest:
                n_failures, furthest = 0, reached()
            n_failures += 1
            if n_failures >= self.policy.max_failures:
                found = f"{n_failures} consecutive failures, the last one: {problem}"
                raise self._make_error(address, found, "run again later: the partial download is kept")
            backoff_seconds = self.policy.backoff_seconds * 2 ** (n_failures - 1)
            self.tally.pause(min(max(backoff_seconds, wait_seconds), self.policy.max_wait_seconds))

    def _make_error(self, address: Address, found: str, todo: str) -> UserError:
        return UserError(f"{self.setting}: cannot fetch {mask_secrets(address.url)}", found, todo)

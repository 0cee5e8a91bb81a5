"""Files behind http(s) addresses: fetched once, whole, checked, and kept.

In: addresses, some with their sha256. Out: local files with what is known of them. Kept files lie in a folder of their own
below `MINIGPT_FETCHED` (default var/fetched), named by address and sha256, or address and entity tag; a half of a file is a
`.partial` there and goes on where it stopped (Range, If-Range), also in another run. Two processes wait for each other.
Covered: cut and stalled connections, 408 425 429 5xx with Retry-After, servers without Range, files that change meanwhile,
a length that is not kept, wrong hashes, redirects away from http(s), tokens in addresses (never shown or written). Not
covered: a server that sends a byte now and then for ever; a file without sha256, entity tag and date that changes at the same
length; an address that leads into a private network. Memory: a block for each of the files under way. Order n.
"""

from __future__ import annotations

import email.utils
import logging
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import httpx
import xxhash

from pipeline.download.readers.fetched_file import Entry, Fetched, Half, Validators
from pipeline.frame.environment import read
from pipeline.frame.errors import UserError
from pipeline.frame.progress import Bar

Result = TypeVar("Result")

RETRIED = {408, 425, 429, 500, 502, 503, 504}
NO_HEAD = {400, 403, 404, 405, 501}  # may mean that the server knows no HEAD: GET will tell
MAX_REDIRECTS = 5
PLAIN_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "MiniGPT"}
SECRET = re.compile(r"token|key|secret|sig|auth|pass|credential|session|jwt", re.IGNORECASE)
MAX_SHOWN_CHARS = 24  # a longer value in an address may be a secret of another name


@dataclass(frozen=True)
class RetryPolicy:
    """How patient we are. Failures count while no new byte has come."""

    n_at_once: int = 4
    max_failures: int = 6
    backoff_seconds: float = 0.5  # doubled after each failure
    max_wait_seconds: float = 120.0  # also where Retry-After asks for more
    connect_seconds: float = 10.0
    stall_seconds: float = 30.0


POLICY = RetryPolicy()


class Address(NamedTuple):
    """Where a file is; `sha256` and `file_name` may be empty."""

    url: str
    sha256: str = ""
    file_name: str = ""


class _AgainError(Exception):
    """This attempt failed; the next one may not."""

    def __init__(self, detail: str, wait_seconds: float = 0.0) -> None:
        super().__init__(detail)
        self.wait_seconds = wait_seconds


class _ChangedError(Exception):
    """The file is another one than it was."""

    def __init__(self, remote: Half) -> None:
        super().__init__("the file changes while it is fetched")
        self.remote = remote


class StoppedError(Exception):
    """Another file failed."""


class ByteTally:
    """The bytes that have come, over all threads, and whether they shall stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.n_bytes = 0
        self._lock = threading.Lock()

    def count(self, n_bytes: int) -> None:
        """Raises `StoppedError` if it is time to."""
        with self._lock:
            self.n_bytes += n_bytes
        self.pause(0.0)

    def pause(self, seconds: float) -> None:
        """Waits. Raises `StoppedError` if it is time to stop."""
        if self.stop.wait(seconds):
            raise StoppedError


def fetched_folder() -> Path:
    return Path(read("MINIGPT_FETCHED"))


def masked(url: str) -> str:
    """The address without user, password and what looks like a secret in its query."""
    parts = urlsplit(url)
    shown = [
        (name, "***" if SECRET.search(name) or len(value) > MAX_SHOWN_CHARS else value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, urlencode(shown, safe="*"), ""))


def fetch_all(
    addresses: Sequence[Address], setting: str, folder: Path, policy: RetryPolicy | None = None
) -> list[Fetched]:
    """The files in the order of their addresses. Raises `UserError` that names the address that can't be had."""
    policy = policy or POLICY
    tally = ByteTally()
    with _Fetcher(setting, folder, policy, tally) as fetcher, ThreadPoolExecutor(policy.n_at_once) as pool:
        try:
            remotes = gather(tally, [pool.submit(fetcher.look, address) for address in addresses])
            sizes = [remote.n_bytes for remote in remotes]
            with Bar("download: fetching", 0 if min(sizes) < 0 else sum(sizes), "bytes") as bar:
                pairs = zip(addresses, remotes, strict=True)
                return gather(tally, [pool.submit(fetcher.fetch, *pair) for pair in pairs], bar)
        finally:
            tally.stop.set()


def gather(tally: ByteTally, futures: list[Future[Result]], bar: Bar | None = None) -> list[Result]:
    """What the threads bring; after the first failure the others stop, and the first in order is raised."""
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
    """A client and its patience; used by several threads."""

    def __init__(self, setting: str, folder: Path, policy: RetryPolicy, tally: ByteTally) -> None:
        self.setting, self.folder, self.policy, self.tally = setting, folder, policy, tally
        for name in ("httpx", "httpcore"):  # they log whole addresses, secrets and all
            logging.getLogger(name).setLevel(logging.WARNING)
        timeout = httpx.Timeout(policy.stall_seconds, connect=policy.connect_seconds)
        self.client = httpx.Client(timeout=timeout, headers=PLAIN_HEADERS)

    def __enter__(self) -> _Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def look(self, address: Address) -> Half:
        """Size and validators; the network is not asked where the sha256 is declared and the file is here."""
        kept = self._entry(address, Validators()).kept() if address.sha256 else None
        return Half(kept.validators, kept.n_bytes) if kept else self._patiently(address, lambda: self._ask(address))

    def _ask(self, address: Address) -> Half:
        for method in ("HEAD", "GET"):
            with self._response(method, address, {}) as response:
                if method == "HEAD" and response.status_code in NO_HEAD:
                    continue
                self._refuse(address, response)
                return _remote(response)
        raise AssertionError("GET is answered or refused")

    def _entry(self, address: Address, validators: Validators, n_bytes: int = -1) -> Entry:
        shown = masked(address.url)
        name = address.file_name or re.sub(r"[^\w.-]", "_", unquote(urlsplit(address.url).path).rpartition("/")[2])
        version = address.sha256 or validators.name() or f"length {n_bytes}"
        key = xxhash.xxh3_128_hexdigest(f"{shown}\0{name}\0{version}".encode())
        return Entry(self.folder / key, name[-120:] or "file", shown)

    def fetch(self, address: Address, remote: Half) -> Fetched:
        """The file, from here or from there."""
        for _ in range(self.policy.max_failures):
            entry = self._entry(address, remote.validators, remote.n_bytes)
            with entry.locked(self.tally.pause):
                if kept := entry.kept():
                    self.tally.count(kept.n_bytes)
                    return kept
                try:
                    return self._fetch(address, remote, entry)
                except _ChangedError as error:
                    remote = error.remote
        raise self._failed(address, "the file changes while it is fetched", "wait until it stays the same")

    def _fetch(self, address: Address, remote: Half, entry: Entry) -> Fetched:
        was_resumed = entry.n_partial() > 0
        self.tally.count(entry.n_partial())
        self._patiently(address, lambda: self._attempt(address, remote, entry), entry.n_partial)
        found = entry.partial_sha256()
        if address.sha256 and found != address.sha256 and was_resumed:  # the half of another file may have lain there
            self._forget(entry)
            self._patiently(address, lambda: self._attempt(address, remote, entry), entry.n_partial)
            found = entry.partial_sha256()
        if address.sha256 and found != address.sha256:
            self._forget(entry)
            found = f"sha256 {found}, declared is {address.sha256}"
            raise self._failed(address, found, "correct the sha256 if the new file is the one you want")
        return entry.finish(found)

    def _forget(self, entry: Entry) -> None:
        self.tally.count(-entry.n_partial())
        entry.forget()

    def _attempt(self, address: Address, remote: Half, entry: Entry) -> None:
        """Appends what is missing to the half that is there, or starts it."""
        start, (known, n_bytes) = entry.n_partial(), entry.half()
        if start == n_bytes > 0:
            return  # it was stopped when all had come
        headers: dict[str, str] = {}
        if start and (known.strong() or address.sha256):
            headers["Range"] = f"bytes={start}-"
            if known.strong():
                headers["If-Range"] = known.strong()
        with self._response("GET", address, headers) as response:
            if response.status_code == 416:
                self._forget(entry)
                raise _AgainError("416: the file is shorter than what has come of it")
            self._refuse(address, response)
            there = _remote(response)
            if response.status_code == 206:
                if _range_start(response) != start or not known.agrees(there.validators):
                    self._forget(entry)
                    raise _AgainError("the server sent another part than it was asked for")
            else:
                self._forget(entry)
                if not address.sha256 and not remote.validators.agrees(there.validators):
                    raise _ChangedError(there)
                entry.begin(there)
            self._receive(response, entry)
            if there.n_bytes >= 0 and entry.n_partial() != there.n_bytes:
                raise _AgainError(f"{entry.n_partial()} bytes came of the {there.n_bytes} that the server declared")

    def _receive(self, response: httpx.Response, entry: Entry) -> None:
        with entry.partial.open("ab") as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                self.tally.count(len(chunk))

    @contextmanager
    def _response(
        self, method: str, address: Address, headers: Mapping[str, str]
    ) -> Generator[httpx.Response, None, None]:
        """The answer after redirects, its body still to come. Raises `UserError` for a redirect that is not followed."""
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
                raise self._failed(
                    address, f"a redirect to {masked(str(target.url))}", "name an address that stays on http(s)"
                )
            request = target
        raise self._failed(address, f"more than {MAX_REDIRECTS} redirects", "name the address they should end at")

    def _refuse(self, address: Address, response: httpx.Response) -> None:
        """Raises what an answer that is no file means."""
        status, coding = response.status_code, response.headers.get("Content-Encoding", "identity")
        if status in RETRIED:
            raise _AgainError(
                f"{status} {response.reason_phrase}", retry_after(response.headers.get("Retry-After", ""))
            )
        if status not in (200, 206):
            raise self._failed(address, f"{status} {response.reason_phrase}", "correct the address, or remove it")
        if coding != "identity" and not address.url.endswith((".gz", ".tgz")):
            raise self._failed(address, f"Content-Encoding: {coding}, which was not asked for", "name another mirror")

    def _patiently(
        self, address: Address, attempt: Callable[[], Result], reached: Callable[[], int] = lambda: 0
    ) -> Result:
        n_failures, furthest = 0, reached()
        while True:
            self.tally.pause(0.0)
            asked = 0.0
            try:
                return attempt()
            except _AgainError as error:
                problem, asked = str(error), error.wait_seconds
            except httpx.InvalidURL as error:
                raise self._failed(address, str(error), "correct the address") from error
            except httpx.HTTPError as error:
                problem = f"{type(error).__name__}: {error}".replace(address.url, masked(address.url))
            if reached() > furthest:
                n_failures, furthest = 0, reached()
            n_failures += 1
            if n_failures >= self.policy.max_failures:
                found = f"{n_failures} failures one after the other, the last: {problem}"
                raise self._failed(address, found, "run it again later: what has come is kept")
            self.tally.pause(
                min(max(self.policy.backoff_seconds * 2 ** (n_failures - 1), asked), self.policy.max_wait_seconds)
            )

    def _failed(self, address: Address, found: str, todo: str) -> UserError:
        return UserError(f"{self.setting}: can't be fetched: {masked(address.url)}", found, todo)


def _remote(response: httpx.Response) -> Half:
    headers = response.headers
    length = headers.get("Content-Length", "")
    if response.status_code == 206:
        length = headers.get("Content-Range", "").rpartition("/")[2]
    validators = Validators(headers.get("ETag", ""), headers.get("Last-Modified", ""))
    return Half(validators, int(length) if length.isdigit() else -1)


def _range_start(response: httpx.Response) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for: a number or a date; 0 where it is neither."""
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0

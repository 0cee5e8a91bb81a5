"""Find out who sends a request: by a key in `Authorization: Bearer mg-…`, or on a service without keys, this machine's own user.

In: headers and the address of the connection. Out: a `Caller`. Unknown, expired and revoked keys, and those of a removed tenant,
get one answer: 401 in OpenAI's shape, after one select. A key is never repeated, in no message and in no log.
Behind a proxy the address is the client's only if `trusted_proxies` has the proxy's (`X-Forwarded-For`: the last address that is
not a trusted proxy); anybody else's header is ignored.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from fastapi import Request

from service.access.caller import Caller
from service.access.failed_attempts import FailedAttempts
from service.access.key_store import SECRET, KeyStore, StoredKey, hash_secret
from service.access.local_access import check_local_request
from service.access.quota import Quota
from service.database.database import Database
from service.service_error import ServiceError

USE_SECONDS = 60.0  # between two records of a key's last use
MAX_QUOTAS = 10_000  # kept between authentication and admission
_LOG = logging.getLogger(__name__)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Authenticator:
    """Authenticates callers. One per process; thread-safe."""

    def __init__(
        self,
        database: Database,
        keys: KeyStore | None = None,
        attempts: FailedAttempts | None = None,
        trusted_proxies: Sequence[str] = (),
    ) -> None:
        """Prepare. Raises: ValueError for a trusted proxy that is no address or network."""
        self.keys = keys or KeyStore(database)
        self._attempts, self._proxies = attempts or FailedAttempts(), parse_networks(trusted_proxies)
        self._is_blocking = not database.is_sqlite  # a server may be slow: it is asked in a thread
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="access")
        self._used: dict[str, float] = {}
        self._quotas: OrderedDict[str, Quota] = OrderedDict()
        self._lock = Lock()
        self._was_closed = False

    async def authenticate_request(self, request: Request) -> Caller:
        """Return the caller of a request: FastAPI's dependency. Raises: ServiceError 401, 403, 429, 503."""
        forwarded = ",".join(request.headers.getlist("x-forwarded-for"))  # a proxy may add a line of its own
        address = self.get_address(forwarded, request.client.host if request.client else "")
        if not self._is_blocking:
            return self.authenticate(request.headers, address)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._workers, self.authenticate, request.headers, address)

    def authenticate(self, headers: Mapping[str, str], address: str) -> Caller:
        """Return the caller. `headers` by lower-case names. Raises: ServiceError 401, 403, 429, 503."""
        if self.is_open():
            check_local_request(headers, address)
            return Caller()
        secret = read_secret(headers)
        digest = hash_secret(secret)
        if (delay := self._attempts.get_delay(address, digest)) > 0:
            raise ServiceError(
                429,
                "authorization: too many wrong keys; found them from one address; wait, then use a valid key.",
                code="too_many_attempts",
                retry_after=delay,
            )
        key = self.keys.find(secret) if SECRET.fullmatch(secret) else None
        if key is None:
            self._attempts.add_failure(address)
            raise _refuse("invalid_api_key", "found one that is unknown, expired or revoked")
        self._attempts.add_success(digest)
        self._record_use(key)
        return key.to_caller()

    def is_open(self) -> bool:
        """Return whether no key was ever made. Once one was, the service stays closed, whatever happens to the database."""
        if not self._was_closed:
            self._was_closed = not self.keys.is_open()
        return not self._was_closed

    def get_quota(self, caller: Caller) -> Quota:
        """Return the limits of the caller's key, as of its authentication."""
        return self._quotas.get(caller.key_id, Quota())

    def get_address(self, forwarded: str, address: str) -> str:
        """Return the address of the client: the connection's, or what trusted proxies say of it in X-Forwarded-For."""
        names = [name.strip() for name in forwarded.split(",") if name.strip()]
        while names and self._is_proxy(address):
            address = names.pop()
        return address

    def close(self) -> None:
        """Wait for what is being recorded."""
        self._workers.shutdown()

    def _is_proxy(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
        return any((mapped or parsed) in network for network in self._proxies)

    def _record_use(self, key: StoredKey) -> None:
        """Keep the limits for the admission, and store the time of use once a minute, after the answer rather than before it."""
        now = time.monotonic()
        with self._lock:
            self._quotas[key.id] = key.grant.quota
            self._quotas.move_to_end(key.id)
            if len(self._quotas) > MAX_QUOTAS:
                self._quotas.popitem(last=False)
            is_due = now - self._used.get(key.id, now - USE_SECONDS) >= USE_SECONDS
            if is_due:
                self._used[key.id] = now
                self._used = self._used if len(self._used) <= MAX_QUOTAS else {key.id: now}
        if is_due:
            self._workers.submit(self._store_use, key)

    def _store_use(self, key: StoredKey) -> None:
        try:
            self.keys.record_use(key)
        except ServiceError as error:  # the request itself goes on: it has its own way to the database
            _LOG.warning("the last use of %s is not recorded: %s", key.id, error)


def read_secret(headers: Mapping[str, str]) -> str:
    """Return the key in the headers. Raises: ServiceError 401 if there is none, or another scheme than Bearer."""
    value = headers.get("authorization", "")
    scheme, _, secret = value.strip().partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _refuse("missing_api_key", "found none" if not value else "found another scheme than Bearer")
    return secret.strip()


def parse_networks(names: Sequence[str]) -> list[Network]:
    """Return addresses and networks. Raises: ValueError for what is neither."""
    networks: list[Network] = []
    for name in names:
        try:
            networks.append(ipaddress.ip_network(name, strict=False))
        except ValueError as error:
            raise ValueError(
                f"trusted_proxies: must be addresses or networks; found {name[:80]!r}; write 10.0.0.7 or 10.0.0.0/8."
            ) from error
    return networks


def _refuse(code: str, found: str) -> ServiceError:
    return ServiceError(
        401,
        f"authorization: a valid key is needed (Authorization: Bearer mg-…); {found}; ask your administrator for one.",
        code=code,
        headers={"WWW-Authenticate": "Bearer"},
    )

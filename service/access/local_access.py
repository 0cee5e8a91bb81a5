"""A service without keys: reachable from this machine alone, and not by a web page of somebody else.

A browser on this machine may be told by any page to send requests here (cross-site), or be tricked into taking the page's own name
for this address (DNS rebinding). So without keys the connection must come from loopback and from no proxy, the name in Host must be
a name of loopback, and what a browser says of the page that sends the request (Origin, Sec-Fetch-Site) must be this service's.
Does not cover: a proxy on this machine that adds no header about its clients, as nginx does by default. Make a key before you
publish a service (docs/deployment.md).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from service.service_error import ServiceError

_LOCAL_NAMES = ("localhost", "ip6-localhost")
_OF_PROXIES = (
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "via", "cf-connecting-ip",
    "true-client-ip",
)  # fmt: skip


def is_loopback(address: str) -> bool:
    """Return whether an address or a name is this machine's own."""
    name = address.strip("[]").rstrip(".").lower()
    if name in _LOCAL_NAMES or name.endswith(".localhost"):
        return True
    try:
        parsed = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_loopback


def check_listening(host: str, is_open: bool, state: str = "") -> None:
    """Refuse to listen on an address that others reach while no key was made. `state`: where it is looked for, as a command's flag.

    Raises: ValueError.
    """
    if is_open and not is_loopback(host):
        raise ValueError(
            f"host: a service without keys listens on loopback only; found {host[:80]!r}; make a key first "
            f"(python -m service keys add --role admin{state and f' --state {state}'}), or use 127.0.0.1."
        )


def check_local_request(headers: Mapping[str, str], address: str) -> None:
    """Refuse a request to a service without keys that does not come from this machine's own programs and page.

    Raises: ServiceError 401 for another machine, 403 for another site.
    """
    if not is_loopback(address) or any(name in headers for name in _OF_PROXIES):
        raise ServiceError(
            401,
            "authorization: this service has no keys and answers this machine alone; found a request from elsewhere; make a key "
            "(python -m service keys add).",
            code="missing_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
    host = headers.get("host", "")
    if not is_loopback(_get_name(host)):
        raise _refuse_site("host", host, "use 127.0.0.1 or localhost, or make a key")
    origin = headers.get("origin")
    if origin is not None and _get_netloc(origin) != host.lower():
        raise _refuse_site("origin", origin, "use the page of the service itself, or make a key")
    site = headers.get("sec-fetch-site", "none")
    if site not in ("same-origin", "none"):
        raise _refuse_site("sec-fetch-site", site, "use the page of the service itself, or make a key")


def _get_netloc(origin: str) -> str:
    """Return host and port of an origin; nothing for `null` and for what is no origin."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return ""
    return parts.netloc.lower() if parts.scheme in ("http", "https") else ""


def _get_name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _refuse_site(name: str, found: str, action: str) -> ServiceError:
    return ServiceError(
        403,
        f"{name}: a service without keys answers its own page and programs of this machine; found {found[:80]!r}; {action}.",
        code="cross_site",
        param=name,
    )

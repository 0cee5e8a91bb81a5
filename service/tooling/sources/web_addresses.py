"""Decide which web addresses may be read: an allow-list of hosts and paths, and no address inside the operator's network.

In: the allow-list (`docs.python.org`, `*.example.org`, `example.org/handbook/`, `example.org:8443`), a URL. Out: `WebAddress` to
connect to. Raises: ValueError in three parts for what is not allowed.

Covers: userinfo, other ports, encoded dots and slashes, IP addresses in any spelling; after the resolution of the name all
addresses of it, by the registries of special addresses, also those that hide in IPv6 (mapped, 6to4, NAT64, Teredo). The address
that was checked is the one to connect to, so that a name can't be bound again in between. Does not cover: what an allowed host
sends on.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

MAX_URL_CHARS = 2_000
PORTS = {"https": 443, "http": 80}
_HOST = re.compile(
    r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,62}[a-z0-9_])?)*", re.ASCII
)
_NOT_PUBLIC = [  # beside what the standard library knows
    ipaddress.ip_network(each)
    for each in (
        "192.0.0.0/24",  # protocols; Oracle's cloud has its metadata there
        "168.63.129.16/32",  # Azure's machines have their host there
        "192.88.99.0/24",  # relays of 6to4
        "fec0::/10",  # inside a site, until 2004
        "3fff::/20",  # documentation
    )
]
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int, float], Sequence[str]]  # host, port, seconds → addresses


class AllowedPlace(NamedTuple):
    """One entry of an allow-list."""

    host: str
    has_subdomains: bool
    port: int | None
    path: str


@dataclass(frozen=True)
class WebAddress:
    """A URL that may be read: its parts."""

    scheme: str
    host: str
    port: int
    target: str  # path and query

    @property
    def url(self) -> str:
        """Return the URL, without a fragment."""
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.target}"


def read_allowed(entries: Sequence[str]) -> list[AllowedPlace]:
    """Return the entries of an allow-list. Raises: ValueError for what is no host with an optional port and path."""
    places: list[AllowedPlace] = []
    for entry in entries:
        match = re.fullmatch(r"(\*\.)?([^/:*\s]+)(?::(\d{1,5}))?(/[^\s?#]*)?", entry.strip().lower())
        host = _encode_host(match[2]) if match else ""
        if match is None or not _HOST.fullmatch(host) or ("." not in host and match[1]):
            raise ValueError(
                f"fetch.allow has what is no host; found {entry[:80]!r}; write docs.python.org, *.example.org or "
                "example.org/handbook/."
            )
        path = (re.fullmatch(r"[^/]*(/.*)?", entry.strip()) or [""])[1] or "/"  # a path has its case
        places.append(AllowedPlace(host, bool(match[1]), int(match[3]) if match[3] else None, path))
    return places


def check_url(url: str, allowed: Sequence[AllowedPlace], *, has_http: bool = False) -> WebAddress:
    """Return the parts of a URL that the list allows. Raises: ValueError."""
    shown = url[:80]
    if len(url) > MAX_URL_CHARS or re.search(r"[\x00-\x20\x7f\\]", url):
        raise ValueError(f"the address is not a plain URL; found {shown!r}; write https://host/path.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"the address is not a URL; found {shown!r}; write https://host/path.") from error
    if parts.scheme not in (("https", "http") if has_http else ("https",)):
        raise ValueError(f"the address must begin with https://; found {shown!r}; no other scheme is allowed.")
    if parts.username is not None or parts.password is not None or not parts.hostname:
        raise ValueError(f"the address must have a host and no user; found {shown!r}; write https://host/path.")
    address = WebAddress(parts.scheme, _encode_host(parts.hostname), port or PORTS[parts.scheme], _read_target(parts))
    if not any(_is_in(address, place) for place in allowed):
        places = ", ".join(_format_place(place) for place in allowed)[:300]
        raise ValueError(
            f"{address.host[:80]} is not on the list of pages that may be read; found {shown!r}; use {places}."
        )
    return address


def choose_address(addresses: Sequence[str], host: str, *, has_private: bool = False) -> str:
    """Return the address to connect to, if all of them may be connected to. Raises: ValueError."""
    if not addresses:
        raise ValueError(f"{host[:80]} has no address; found none by its name; correct it.")
    for text in addresses:
        address = ipaddress.ip_address(text.partition("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if not all(_is_public(each) or (has_private and _is_own(each)) for each in (address, *_list_embedded(address))):
            raise ValueError(
                f"{host[:80]} is an address that may not be read; found {address}; it is inside a network or reserved."
            )
    return addresses[0]


def resolve(host: str, port: int, seconds: float) -> Sequence[str]:
    """Return the addresses of a host. Raises: ValueError if there is no answer in time."""
    found: list[str] = []

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError:
            return
        found.extend(dict.fromkeys(str(entry[4][0]) for entry in entries))

    thread = Thread(target=look_up, daemon=True)  # getaddrinfo has no time limit
    thread.start()
    thread.join(seconds)
    return tuple(found)


def _encode_host(host: str) -> str:
    """Return a host in lower case and ASCII; what can't be encoded comes back as it is, and matches nothing."""
    try:
        return (
            host.lower().rstrip(".").encode("idna").decode("ascii") if not host.isascii() else host.lower().rstrip(".")
        )
    except UnicodeError:
        return host


def _read_target(parts: SplitResult) -> str:
    path = parts.path or "/"
    decoded = unquote(unquote(path))  # some servers decode twice, and some cut a segment at ";"
    segments = {segment.partition(";")[0] for segment in decoded.replace("\\", "/").split("/")}
    has_slash = any(slash in each.lower() for each in (path, unquote(path)) for slash in ("%2f", "%5c"))
    if has_slash or {".", ".."} & segments:
        raise ValueError(f"the path has dots or encoded slashes; found {path[:80]!r}; write it plainly.")
    return path + (f"?{parts.query}" if parts.query else "")


def _is_in(address: WebAddress, place: AllowedPlace) -> bool:
    is_host = address.host == place.host or (place.has_subdomains and address.host.endswith(f".{place.host}"))
    if place.has_subdomains and address.host == place.host:
        is_host = False
    is_port = address.port == (place.port or PORTS[address.scheme])
    path = address.target.partition("?")[0]
    return is_host and is_port and f"{path}/".startswith(f"{place.path.rstrip('/')}/")


def _format_place(place: AllowedPlace) -> str:
    port = f":{place.port}" if place.port else ""
    return f"{'*.' if place.has_subdomains else ''}{place.host}{port}{place.path if place.path != '/' else ''}"


def _is_public(address: Address) -> bool:
    is_special = any(address in network for network in _NOT_PUBLIC)
    return address.is_global and not address.is_multicast and not address.is_reserved and not is_special


def _is_own(address: Address) -> bool:
    """Return whether an address is in the operator's own network. Those of a link never are: clouds have their keys there."""
    is_wrong = address.is_link_local or address.is_multicast or address.is_unspecified or address.is_reserved
    return address.is_loopback or (address.is_private and not is_wrong)


def _list_embedded(address: Address) -> list[Address]:
    """Return the IPv4 addresses to which an IPv6 address may lead."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address] = [address.sixtofour] if address.sixtofour is not None else []
    found += address.teredo or ()
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found

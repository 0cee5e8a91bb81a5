"""Find public IPv4 and IPv6 addresses.

In: a window of bytes and the position of the first digit. Out: the span of the address, or None.
"""

from __future__ import annotations

import ipaddress
import re

from pipeline.filter.pii.spans import Span

_IPV4 = re.compile(rb"\d{1,3}(?:\.\d{1,3}){3}")
_IPV6 = re.compile(rb"[0-9A-Fa-f:]{6,39}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?")
_VERSION_CUE = re.compile(
    rb"(?i)(?:(?<![\w\x80-\xff])(?:v|ver|version|release[sd]?|rev|revision|build|firmware|driver|section|sec|chapter|clause|table|fig|figure"
    rb"|rule|oid)\b\W{0,3}|==|>=|<=|~=|\xc2\xa7 ?)\Z"
)
_IP_CUE = re.compile(
    rb"(?i)(?<![<\w])(?:ips?|ipv4|address|addresses|hosts?|server|dns|ping|gateway|router|peer|subnet)\W|://\S{0,40}\Z"
)


def find_ipv4(window: bytes, at: int) -> Span | None:
    """Return the span of a public address (`ipaddress.is_global`). Private, loopback, reserved and documentation addresses
    (RFC 5737) identify nobody.

    Not matched on purpose: numbers after a word like "version" or "section"; addresses whose parts are all below 64 (1 in 256, but
    nearly every version number) unless a word like "host" precedes or a port follows.
    """
    found = _IPV4.match(window, at)
    if found is None or not _is_global(found.group()):
        return None
    stop, rest = found.end(), window[found.end() : found.end() + 2]
    joined = rest[:1].isalnum() or rest[:1] == b"_" or (rest[:1] in (b".", b"-") and rest[1:].isalnum())
    if joined or window[max(0, at - 1) : at] == b"+" or _VERSION_CUE.search(window, max(0, at - 16), at):
        return None
    has_port = rest[:1] == b":" and rest[1:].isdigit()
    is_low = all(int(part) < 64 for part in found.group().split(b"."))
    return None if is_low and not has_port and not _IP_CUE.search(window, max(0, at - 40), at) else (at, stop)


def find_ipv6(window: bytes, at: int) -> Span | None:
    """Return the span of a public address (2000::/3 without 2001:db8::/32) of at least three groups.

    Not matched on purpose: prefixes (`2001:4860::`), times, slices.
    """
    found = _IPV6.match(window, at)
    if found is None:
        return None
    text = found.group().rstrip(b":")
    stop = at + len(text)
    groups = [group for group in text.split(b":") if group]
    if len(groups) < 3 or window[stop : stop + 1].isalnum() or re.match(rb":[\w:]", window[stop : stop + 2]):
        return None
    return (at, stop) if _is_global(text) else None


def _is_global(text: bytes) -> bool:
    """Return whether the text is a public unicast address."""
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError:
        return False
    return address.is_global and not address.is_multicast

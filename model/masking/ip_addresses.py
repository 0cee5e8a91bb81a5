"""Find IPv4 and IPv6 addresses, and tell them from version and section numbers.

In: a window of bytes and the position of the first digit or hexadecimal group. Out: the span of the address, or None.

Never matched: the unspecified address, netmasks, local multicast groups, and the networks for documentation (RFC 5737 and 3849),
because they identify nobody. With `only_public`, nothing but public unicast addresses is matched.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

from model.masking.spans import Span

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_QUAD = rb"\d{1,3}(?:\.\d{1,3}){3}"
_IPV4 = re.compile(_QUAD)
_IPV6 = re.compile(rb"(?:::)?[0-9A-Fa-f]{1,4}(?:::?[0-9A-Fa-f]{1,4}(?![0-9A-Fa-f.]))*(?:::?" + _QUAD + rb"|::(?!:))?")
_ZONE = re.compile(rb"%(?:25)?[A-Za-z][\w.-]{0,15}(?<![.-])")

_VERSION_CUE = re.compile(  # directly before the number
    rb"(?i)(?:(?<![\w\x80-\xff])(?:v|vers?|versions?|release[sd]?|rev|revision|build|builds|firmware|driver|drivers|kernel|update|upgrade"
    rb"|patch|tag|since|assembly|chrome|chromium|firefox|edge|safari|opera|qt|windows|macos|ios|android"
    rb"|sections?|sect?|chapters?|clauses?|paragraphs?|para|articles?|art|appendix|annex|table|fig|figure|eq|equation|rules?|oid|object"
    rb"|items?|steps?|theorem|lemma|exercise|requirement|ticket|abschnitt|kapitel|absatz|ziffer|secci\xc3\xb3n|cap\xc3\xadtulo|chapitre"
    rb"|sezione|capitolo|versi\xc3\xb3n|versione|vers\xc3\xa3o|wersja)\b(?: no\b)?\W{0,3}"
    rb"|\xd0\xb2\xd0\xb5\xd1\x80\xd1\x81\xd0\xb8\xd1\x8f |\xe7\x89\x88\xe6\x9c\xac\W?|==|>=|<=|~=|\xc2\xa7 ?)\Z"
)
_ADDRESS_CUE = re.compile(
    rb"(?i)(?:(?<![<A-Za-z0-9])(?:ip|ips|ipv4|ipv6|inet6?|addr|address|addresses|hosts?|hostname|localhost|loopback|servers?|dns|nameservers?|ping"
    rb"|gateway|routers?|peers?|subnet|netmask|network|proxy|ssh|telnet|curl|wget|connect(?:ed|ing|ion|ions)?|listen(?:s|ing)?|bind"
    rb"|log(?:in|ins|ged)|came|requests?|visits?|visited|attacks?|traffic|visitor|client|clients"
    rb"|node|remote|block(?:ed)?|bann?(?:ed)?|firewall|vpn|adresse|direcci\xc3\xb3n|adresy?|indirizzo"
    rb"|\xd0\xb0\xd0\xb4\xd1\x80\xd0\xb5\xd1\x81)\b"
    rb"(?:\W{0,4}\b(?:is|are|was|at|of|on|to|the|a|an|and|or|via|from|for|by|with|number|ip|ipv4|address|addresses|addr|server|host"
    rb"|port|ist|est|es|com|v4|[46])\b){0,4}[^A-Za-z\n]{0,24}(?:"
    + _QUAD
    + rb"(?:\W{1,3}|,? (?:and|or|to) )){0,3}|://\S{0,40}|\w@)\Z"
)
_AFTER_ADDRESS = re.compile(
    rb"/(?:[12]?\d|3[0-2])(?![\w./])|:\d{2,5}(?!\w)| - \S+ \[\d|,? (?:port|netmask|via|dev)\b|%25[a-z]|%[a-z]"
)
_PRODUCT = re.compile(rb"(?<![\w.])(?!(?:From|To|By|On|At|In|For|The|And|Or|Via|User)\b)[A-Z][A-Za-z0-9+#]*[ /]\Z")
_INDEX = re.compile(rb"[\w)\]]\[[^\]\n]{0,60}\Z")
_NOBODY = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "224.0.0.0/24", "255.0.0.0/8", "::/128", "ff00::/12"),
        *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20", "ffff::/16"),
    )
)


def find_ipv4(window: bytes, at: int, *, only_public: bool = False) -> Span | None:
    """Return the span of an IPv4 address.

    Not matched on purpose: numbers after a word like "version", "Chrome" or "section". Of the others, those that look like a
    version (1 in 45 random addresses, but nearly every version number) need evidence: a word like "host" or a URL before them,
    a port, a prefix length or the fields of an access log after them.
    """
    found = _IPV4.match(window, at)
    address = _parse_address(found.group(), only_public) if found is not None else None
    if found is None or address is None:
        return None
    stop, rest = found.end(), window[found.end() : found.end() + 2]
    joined = rest[:1].isalnum() or rest[:1] == b"_" or (rest[:1] in (b".", b"-") and rest[1:].isalnum())
    if joined or window[max(0, at - 1) : at] == b"+" or _VERSION_CUE.search(window, max(0, at - 20), at):
        return None
    has_product = _PRODUCT.search(window, max(0, at - 24), at) is not None
    is_clear = not _looks_like_version(found.group(), has_product=has_product) or _AFTER_ADDRESS.match(window, stop)
    return (at, stop) if is_clear or _ADDRESS_CUE.search(window, max(0, at - 64), at) else None


def _looks_like_version(text: bytes, *, has_product: bool) -> bool:
    """Return whether the first part is below 128 and all are below 64, the second is 0, or two are below 20 (after a capitalized
    word, one); never for a private network."""
    parts = [int(part) for part in text.split(b".")]
    if parts[0] in (10, 127) or parts[:2] in ([192, 168], [169, 254]) or (parts[0] == 172 and 16 <= parts[1] < 32):
        return False
    n_small = sum(part < 20 for part in parts)
    return parts[0] < 128 and (max(parts) < 64 or parts[1] == 0 or n_small > 1 or (has_product and n_small > 0))


def find_ipv6(window: bytes, at: int, *, only_public: bool = False) -> Span | None:
    """Return the span of an IPv6 address with its zone, without brackets, prefix length and port, where `at` is its start.

    Not matched on purpose: prefixes of fewer than three groups (`2001:4860::`), times, slices and indices (`x[::1]`, `x[2000::2]`),
    eight pairs of digits (EUI-64), and names such as `dead::beef`; `::1` and `1:2::3` need evidence, as above.
    """
    found = _IPV6.match(window, at)
    if found is None or window[max(0, at - 1) : at] in (b"_", b"."):
        return None
    text, stop = found.group(), found.end()
    if b"::" not in text and text.count(b":") == 8 and re.fullmatch(rb"\d{2,5}", text.rpartition(b":")[2]):  # a port
        text = text.rpartition(b":")[0]
        stop = at + len(text)
    is_port = stop < found.end()
    if _parse_address(text, only_public) is None or (not is_port and re.match(rb"\w|[:.]\w", window[stop : stop + 2])):
        return None
    is_index = _INDEX.search(window, max(0, at - 64), at) is not None
    before, after = window[max(0, at - 1) : at], window[stop : stop + 1]
    if is_index or (after == b"]" and before != b"["):
        return None
    groups = [group for group in re.split(rb"[:.]+", text) if group]
    has_form = any(len(group) > 2 for group in groups) and any(byte in b"0123456789" for byte in text)
    is_short = len(groups) < 3 and not re.match(
        rb"(?i)(?:fe[89ab][0-9a-f]|f[cd][0-9a-f]{2}|[23][0-9a-f]{3})::[0-9a-f]", text
    )
    if not has_form or is_short:
        is_bracketed = before == b"[" and after == b"]" and re.match(rb":\d|/", window[stop + 1 : stop + 3])
        is_clear = is_bracketed or _AFTER_ADDRESS.match(window, stop) or b"localhost" in window[stop : stop + 12]
        if text.endswith(b"::") or not (is_clear or _ADDRESS_CUE.search(window, max(0, at - 64), at)):
            return None
    zone = _ZONE.match(window, stop)
    return at, zone.end() if zone is not None else stop


def _parse_address(text: bytes, only_public: bool) -> Address | None:
    """Return the address if it identifies a host, or None."""
    try:
        address = ipaddress.ip_address(text.decode())
    except ValueError:
        return None
    if only_public:
        return address if address.is_global and not address.is_multicast else None
    return None if any(address in each for each in _NOBODY) else address

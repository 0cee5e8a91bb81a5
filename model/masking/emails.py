"""Find email addresses around an `@`.

In: a window of bytes and the position of the `@`. Out: the span of the address, or None. The patterns have no nested repetition
and the window is a few hundred bytes, so no text can make them slow.
"""

from __future__ import annotations

import re

from model.masking.spans import Span

_LOCAL = re.compile(rb"[A-Za-z0-9._%+'\-\x80-\xff]{1,64}\Z")
_DOMAIN = re.compile(
    rb"@((?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,8})([A-Za-z]{2,24}|xn--[A-Za-z0-9-]{2,40})(?![A-Za-z0-9@]|[-_]\w)"
)
_URL_USER = re.compile(rb"://[^\s/@?#]*\Z")
# RFC 2606 and 6761: names for documentation, and names that are not resolved outside a network
_RESERVED_DOMAIN = re.compile(
    rb"(?:\A|\.)(?:example\.(?:com|net|org)|example|test|invalid|localhost|local|localdomain)\Z", re.IGNORECASE
)
# Endings that look like a domain but belong to files or systemd units: logo@2x.png, getty@tty1.service
_FILE_ENDINGS = frozenset(
    b"png jpg jpeg gif svg webp ico css js ts jsx tsx mjs json map html htm xml txt md rst py pyc rb rs go java class"
    b" service socket target timer mount slice scope device zip gz tgz bz2 xz tar so dll exe pdf yml yaml toml sh".split()
)


def find_email(window: bytes, at: int) -> Span | None:
    """Return the span of `name@domain.tld` (RFC 5321 without quoted names and address literals), where `at` is the `@`.

    Not matched on purpose: example.com/.net/.org, .example, .test, .invalid, .localhost, .local; a user in a URL (`ssh://git@host`);
    the logins `git@`, `hg@`, `svn@`; anything that ends like a file name (`logo@2x.png`) or is called (`a@b.dot(c)`).
    """
    local, domain = _LOCAL.search(window, max(0, at - 64), at), _DOMAIN.match(window, at)
    if local is None or domain is None:
        return None
    name = _trim_to_name(local.group()).lstrip(b".%+-'")
    last = domain.group(2).lower()
    if not name or name.endswith(b".") or name in (b"git", b"hg", b"svn") or last in _FILE_ENDINGS:
        return None
    if window[domain.end() : domain.end() + 1] in (b"(", b"[", b"=") or _RESERVED_DOMAIN.search(domain.group()[1:]):
        return None
    start = at - len(name)
    if _URL_USER.search(window, max(0, start - 64), start):
        return None
    return start, domain.end()


def _trim_to_name(local: bytes) -> bytes:
    """Return the end of `local` that is one name: letters of caseless scripts (Han, Thai, …) belong to the surrounding text."""
    text = local.decode("utf-8", "ignore")
    first = len(text)
    while first and (text[first - 1].isascii() or text[first - 1].lower() != text[first - 1].upper()):
        first -= 1
    return text[first:].encode()

"""Find keys and tokens by the prefixes that issuers give them to make them detectable.

In: a window of bytes and the position of the prefix. Out: the span of the token, or None. A token's body has the issuer's length
and alphabet, and is neither a repeated character nor an obvious placeholder (`AKIAIOSFODNN7EXAMPLE`, `ghp_xxxx…`). Bodies end at
`MAX_KEY_BYTES`.

Does not cover: passwords, keys without a prefix (AWS secret access keys, hexadecimal API keys), user and password in a URL.
"""

from __future__ import annotations

import re
from functools import cache

from model.masking.spans import Span

MAX_KEY_BYTES = 16_384  # a 16,384-bit RSA private key takes 12,500
LONG_STARTS = b"Peyp"  # PRIVATE KEY, eyJ…, ya29…, pypi-…: those that may exceed a few hundred bytes

# Prefix of a word → the whole token. Lengths are those in the issuers' documentation and secret-scanning pages.
_TOKENS: dict[bytes, bytes] = {
    b"AKIA": rb"AKIA[A-Z2-7]{16}",  # AWS access key id, and ASIA: of a session
    b"ASIA": rb"ASIA[A-Z2-7]{16}",
    b"ghp_": rb"ghp_[A-Za-z0-9]{36,251}",  # GitHub: personal, OAuth, user, server, refresh
    b"gho_": rb"gho_[A-Za-z0-9]{36,251}",
    b"ghu_": rb"ghu_[A-Za-z0-9]{36,251}",
    b"ghs_": rb"ghs_[A-Za-z0-9]{36,251}",
    b"ghr_": rb"ghr_[A-Za-z0-9]{36,251}",
    b"github_pat_": rb"github_pat_\w{40,244}",
    b"glpat-": rb"glpat-[\w-]{20,300}(?:\.[\w-]{2,12}){0,2}",  # GitLab
    b"xox": rb"xox[abceoprs](?:\.xox[bp])?-[\w-]{10,250}",  # Slack
    b"xapp-": rb"xapp-\d-[\w-]{20,250}",
    b"hooks": rb"hooks\.slack\.com/services/T\w{6,20}/B\w{6,20}/\w{16,40}",
    b"sk_live_": rb"sk_live_[A-Za-z0-9]{16,247}",  # Stripe: secret and restricted
    b"sk_test_": rb"sk_test_[A-Za-z0-9]{16,247}",
    b"rk_live_": rb"rk_live_[A-Za-z0-9]{16,247}",
    b"rk_test_": rb"rk_test_[A-Za-z0-9]{16,247}",
    b"whsec_": rb"whsec_[A-Za-z0-9+/]{32,64}={0,2}",
    b"AIza": rb"AIza[\w-]{35}",  # Google: API key, OAuth token and client secret
    b"ya29": rb"ya29\.[\w-]{20,2000}",
    b"GOCSPX": rb"GOCSPX-[\w-]{28}",
    b"sk-": rb"sk-(?:ant-|proj-|svcacct-|admin-|or-v1-|None-)?[\w-]{20,250}",  # OpenAI, Anthropic, OpenRouter, DeepSeek, …
    b"hf_": rb"hf_[A-Za-z]{34}",  # Hugging Face
    b"r8_": rb"r8_[A-Za-z0-9]{37}",  # Replicate
    b"gsk_": rb"gsk_[A-Za-z0-9]{40,60}",  # Groq
    b"npm_": rb"npm_[A-Za-z0-9]{36}",
    b"pypi-": rb"pypi-AgE[\w-]{50,1000}",
    b"dckr_pat_": rb"dckr_pat_[\w-]{24,40}",  # Docker
    b"dop_v1_": rb"dop_v1_[a-f0-9]{64}",  # DigitalOcean
    b"shpat_": rb"shpat_[a-fA-F0-9]{32}",  # Shopify
    b"SG": rb"SG\.[\w-]{22}\.[\w-]{43}",  # SendGrid
    b"key-": rb"key-[a-f0-9]{32}",  # Mailgun
    b"eyJ": rb"eyJ[\w-]{10,4000}\.eyJ[\w-]{10,8000}\.[\w-]{10,2000}",  # JSON Web Token, RFC 7519
    b"AccountKey=": rb"(?P<name>AccountKey=)[A-Za-z0-9+/]{43,88}={0,2}",  # Azure connection strings
    b"SharedAccessKey=": rb"(?P<name>SharedAccessKey=)[A-Za-z0-9+/]{43,88}={0,2}",
    b"PRIVATE": rb"PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!----)){64,16000}+-----END [A-Z ]{0,24}PRIVATE KEY(?: BLOCK)?-----",
}
_FAKE = re.compile(
    rb"(?i)example|x{6}|\*{4}|\.{4}|0{8}|(?:your|my|fake|dummy|test)[_-]?(?:api|key|token|secret)|12345678901|abcdefghij"
)
_PEM_HEAD = re.compile(rb"-----BEGIN [A-Z ]{0,24}\Z")


def list_prefixes() -> tuple[bytes, ...]:
    """Return the prefixes for `scan.scan`, each of at least three bytes."""
    return tuple(prefix if len(prefix) >= 3 else prefix + b"." for prefix in _TOKENS)


@cache
def _compile_patterns() -> tuple[tuple[bytes, re.Pattern[bytes]], ...]:
    """Return (prefix, compiled pattern) for each token."""
    return tuple((prefix, re.compile(pattern)) for prefix, pattern in _TOKENS.items())


def find_key(window: bytes, at: int) -> Span | None:
    """Return the span of a token whose prefix starts at `at`; of a private key, the block from first to last dash."""
    known = next((known for known in _compile_patterns() if window.startswith(known[0], at)), None)
    if known is None:
        return None
    prefix, pattern = known
    if window[max(0, at - 1) : at] == b"-" and prefix != b"PRIVATE":  # inside another token
        return None
    found = pattern.match(window, at)
    if found is None:
        return None
    if prefix == b"PRIVATE":
        head = _PEM_HEAD.search(window, max(0, at - 40), at)
        return None if head is None else (head.start(), found.end())
    start = found.end("name") if "name" in pattern.groupindex else at
    after = window[found.end() : found.end() + 1]
    if after.isalnum() or after == b"_" or not _is_random(window[start : found.end()]):
        return None
    return start, found.end()


def _is_random(token: bytes) -> bool:
    """Return whether the token is no placeholder: 16 random characters out of 36 have 13 distinct ones on average."""
    body = token.rsplit(b"_", 1)[-1] if token.count(b"_") < 4 else token
    return len(set(body)) >= min(10, len(body) // 2) and not _FAKE.search(token)

"""Match documents against tombstones: takedowns by id, URL, domain or license.

In: the lines of data/takedowns.jsonl, and columns of documents (id, url, license). Out: for each document the key of the
tombstone that covers it, or null. Memory: one batch of columns. Time: 2 µs per document, none without tombstones.

A URL is compared without scheme, user, default port, `www.`, fragment and trailing slash, with its host in lower case and
percent-encoding normalized as in RFC 3986 (6.2.2). A domain covers its subdomains. A license covers every document that may
not be used without it: `A AND B` needs both, `A OR B` neither. All kinds but an id also cover documents that are collected later.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute defines its functions at run time)
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from license_expression import ExpressionError, ExpressionParseError, Licensing, get_spdx_licensing

from pipeline.frame.errors import UserError
from pipeline.storage.lines import number_lines, read_list
from pipeline.text.columns import to_one_array
from pipeline.text.license_names import normalize_license

KINDS = (
    "id",
    "url",
    "domain",
    "license",
    "feedback",
)  # the last is no document: feedback on an answer (docs/feedback.md)
SPELLINGS = {"licence": "license"}  # of kinds
INVISIBLE = (
    "\ufeff\u200b\u200c\u200d\u200e\u200f\u2060\u00ad"  # around an address that was copied from a page or a mail
)
REASON = "takedown"  # in the ledger, and `dropped_takedown` in the metrics
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
URL = (
    r"(?s)^(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?:[^/?#]*@)?"
    r"(?P<host>\[[^\]]*\]|[^/?#:]*)(?::(?P<port>[0-9]*))?(?P<path>(?:[/][^?#]*)?)(?P<query>\?[^#]*)?(?:#.*)?$"
)
HOST = r"^(?:\[[0-9a-f:.]+\]|[^\s/?#:@%\[\]\x00-\x1f\x7f-\x{10ffff}]+)$"
ENDS = r"[\s/]+$"


class Tombstone(NamedTuple):
    """One line of the file: what is taken down, the reason, the date if one was given, and the SHA-256 of the text of a
    document taken down by id, by which collections (assistant/knowledge) recognize copies."""

    kind: str
    value: str
    reason: str
    date: str = ""
    sha256: str = ""

    @property
    def key(self) -> str:
        """The name of the tombstone in the ledger."""
        return f"{self.kind}:{self.value}"


class Tombstones(NamedTuple):
    """The values of each kind, ready for `match`."""

    ids: pa.StringArray
    urls: pa.StringArray
    domains: frozenset[str]
    licenses: tuple[str, ...]


def read_tombstones(path: Path) -> list[Tombstone]:
    """Read the file. Raise `UserError` that names the line."""
    return _parse_lines(read_list(path), str(path))


def parse(text: str, name: str = "takedowns.jsonl") -> list[Tombstone]:
    """Parse the text of the file. Raise `UserError` that names the line."""
    return _parse_lines(number_lines(text), name)


def _parse_lines(lines: Iterable[tuple[int, str]], name: str) -> list[Tombstone]:
    stones: list[Tombstone] = []
    for number, line in lines:
        try:
            row: Any = json.loads(line)
            stone = make_tombstone(row["kind"], row["value"], row.get("reason", ""), row.get("date", ""))
            stone = stone._replace(sha256=_check_sha256(row.get("sha256", "")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{name}:{number}: not a tombstone",
                f"{line[:80]} ({error!r})" if not isinstance(error, UserError) else f"{line[:80]} ({error.found})",
                'write each line as {"kind": "id, url, domain, license or feedback", "value": "…", "reason": "…"}',
            ) from error
        stones.append(stone)
    return stones


def _check_sha256(value: str) -> str:
    if value and not re.fullmatch(r"[0-9a-f]{64}", value):
        raise UserError("takedown: not a SHA-256", repr(value), "write 64 hexadecimal digits, or leave it out")
    return value


def render(tombstones: Iterable[Tombstone]) -> str:
    """Return the text of the file: sorted, one JSON object per line, each tombstone once (with the reason of the first one)."""
    first: dict[str, Tombstone] = {}
    for stone in tombstones:
        first.setdefault(stone.key, stone)
    rows = [{name: value for name, value in stone._asdict().items() if value} for stone in sorted(first.values())]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def make_tombstone(kind: str, value: str, reason: str, date: str = "") -> Tombstone:
    """Return a tombstone with its value in canonical form. Raise `UserError` for an invalid kind or value."""
    kind, value = SPELLINGS.get(kind, kind), value.strip().strip(INVISIBLE).strip()
    if kind not in KINDS:
        raise UserError("takedown: unknown kind", repr(kind), f"use one of {', '.join(KINDS)}")
    canonicalize: dict[str, Callable[[str], str]] = {
        "id": str.lower,
        "url": lambda url: str(canonicalize_urls(pa.array([url]))[0].as_py()),
        "domain": _canonicalize_domain,
        "license": _canonicalize_license,
        "feedback": str.lower,
    }
    canonical = canonicalize[kind](value)
    is_valid = {
        "id": re.fullmatch(r"[0-9a-f]{32}", canonical),
        "url": extract_hosts(pa.array([canonical]))[0].as_py(),
        "domain": re.fullmatch(r"[^\s/:?#@]+", canonical),
        "feedback": re.fullmatch(r"fb_[a-z2-7]{24}", canonical),
    }
    if not canonical or not is_valid.get(kind, True):
        raise UserError(f"takedown: not {'an' if kind == 'id' else 'a'} {kind}", repr(value), "correct its spelling")
    return Tombstone(kind, canonical, reason.strip(), date.strip())


def prepare(tombstones: Sequence[Tombstone]) -> Tombstones:
    """Group tombstones by kind for `match`."""
    values = {kind: [stone.value for stone in tombstones if stone.kind == kind] for kind in KINDS}
    return Tombstones(
        pa.array(values["id"], pa.string()),
        pa.array(values["url"], pa.string()),
        frozenset(values["domain"]),
        tuple(values["license"]),
    )


def match(docs: pa.RecordBatch | pa.Table, stones: Tombstones) -> pa.StringArray:
    """Return for each document (columns id, url, license) the key of the tombstone that covers it, or null."""
    keys = [pa.nulls(docs.num_rows, pa.string())]
    if len(stones.ids):
        keys.append(_find_keys("id", stones.ids, to_one_array(docs.column("id"))))
    if len(stones.urls):
        keys.append(_find_keys("url", stones.urls, canonicalize_urls(to_one_array(docs.column("url")))))
    if stones.domains:
        hosts = extract_hosts(to_one_array(docs.column("url")))
        keys.append(_map_distinct(hosts, lambda host: _match_domain(host, stones.domains)))
    if stones.licenses:
        licenses = to_one_array(docs.column("license"))
        keys.append(_map_distinct(licenses, lambda expression: _match_license(expression, stones.licenses)))
    return pc.coalesce(*keys)


def _find_keys(kind: str, values: pa.StringArray, column: pa.StringArray) -> pa.StringArray:
    names = pa.array([f"{kind}:{value}" for value in values.to_pylist()], pa.string())
    return names.take(pc.index_in(column, value_set=values))


def _map_distinct(column: pa.StringArray, function: Callable[[str], str | None]) -> pa.StringArray:
    """Apply a function to a column, once per distinct value."""
    encoded = column.dictionary_encode()
    results = pa.array([function(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return results.take(encoded.indices)


def canonicalize_urls(urls: pa.StringArray) -> pa.StringArray:
    """Return host[:port]/path?query in canonical form; a value without a host is only trimmed.

    Idempotent: the file of tombstones may be read and written any number of times.
    """
    trimmed = pc.utf8_trim_whitespace(urls)
    parts = pc.extract_regex(trimmed, URL)
    host, port, path, query = (pc.struct_field(parts, i) for i in range(4))
    host = pc.replace_substring_regex(_lower_hosts(host), r"^(www\.)+", "")
    port = pc.if_else(
        pc.is_in(port, value_set=pa.array(["", "80", "443"])), "", pc.binary_join_element_wise(":", port, "")
    )
    path = pc.replace_substring_regex(path, ENDS, "")
    query = pc.replace_substring_regex(query, r"^\?\s*$|\s+$", "")
    joined = _normalize_percents(pc.binary_join_element_wise(host, port, path, query, ""))
    is_host = pc.fill_null(pc.match_substring_regex(host, HOST), False)
    return pc.if_else(is_host, joined, trimmed)


def extract_hosts(urls: pa.StringArray) -> pa.StringArray:
    """Return the host of each URL in lower case and ASCII form; empty where there is none."""
    return pc.fill_null(_lower_hosts(pc.struct_field(pc.extract_regex(pc.utf8_trim_whitespace(urls), URL), 0)), "")


def _lower_hosts(host: pa.StringArray) -> pa.StringArray:
    lower = pc.utf8_rtrim(pc.utf8_lower(host), ".")
    if pc.all(pc.string_is_ascii(lower)).as_py() in (True, None):
        return lower
    return pa.array([name and _to_ascii_host(name) for name in lower.to_pylist()], pa.string())


def _to_ascii_host(name: str) -> str:
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _normalize_percents(urls: pa.StringArray) -> pa.StringArray:
    """Decode percent-encoded unreserved characters, write the other codes in upper case, and encode all non-ASCII characters."""
    is_affected = pc.or_(pc.match_substring(urls, "%"), pc.invert(pc.string_is_ascii(urls)))
    if not pc.any(is_affected).as_py():
        return urls
    normalized = pa.array([url and _normalize_url(url) for url in urls.filter(is_affected).to_pylist()], pa.string())
    return pc.replace_with_mask(urls, is_affected, normalized)


def _normalize_url(url: str) -> str:
    ascii_url = quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", url), safe="%!$&'()*+,;=:@/?[]\"<>\\^`{|} #~")

    def decode_unreserved(code: re.Match[str]) -> str:
        character = chr(int(code[1], 16))
        return character if character in UNRESERVED else code[0].upper()

    return re.sub(r"%([0-9A-Fa-f]{2})", decode_unreserved, ascii_url)


def _canonicalize_domain(value: str) -> str:
    return _to_ascii_host(value.lower().removeprefix("*").strip("."))


def _match_domain(host: str, domains: frozenset[str]) -> str | None:
    """Return `domain:…` for the host itself or its nearest parent domain, or None."""
    while host:
        if host in domains:
            return f"domain:{host}"
        host = host.partition(".")[2]
    return None


def _match_license(expression: str, licenses: Sequence[str]) -> str | None:
    return next((f"license:{license}" for license in licenses if needs(expression, license)), None)


def needs(expression: str, license: str) -> bool:
    """Return whether an SPDX expression is unsatisfiable without `license`. Anything but SPDX is compared literally."""
    if expression == license:
        return True
    parsed = _parse_spdx(expression)
    return parsed is not None and _node_needs(parsed, license)


def _node_needs(node: Any, license: str) -> bool:
    rendered = str(node.render())
    if rendered == license:
        return True
    if node.args:
        children = [_node_needs(child, license) for child in node.args]
        return any(children) if node.operator.strip() == "AND" else all(children)
    return hasattr(node, "license_symbol") and str(node.license_symbol.render()) == license


def _canonicalize_license(value: str) -> str:
    parsed = _parse_spdx(value)
    return value if parsed is None else str(parsed.render())


@cache
def _parse_spdx(expression: str) -> Any:
    try:
        return _load_spdx().parse(normalize_license(expression))
    except (ExpressionError, ExpressionParseError):
        return None


@cache
def _load_spdx() -> Licensing:
    return get_spdx_licensing()

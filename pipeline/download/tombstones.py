"""Tombstones: which documents have been taken down, by id, URL, domain or license.

In: the lines of data/takedowns.jsonl, and columns of documents (id, url, license). Out: for each document the key of the
tombstone that covers it, or null. Memory: one batch of columns. Time: 2 µs a document, nothing without tombstones.

A URL is compared without scheme, user, default port, `www.`, fragment and closing slash, its host in lower case and its
percent signs as RFC 3986 (6.2.2) normalises them. A domain covers its subdomains. A license covers every document that may
not be used without it: `A AND B` needs both, `A OR B` neither. All but an id also cover what is collected later.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions at run time)
from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, NamedTuple
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
from license_expression import ExpressionError, ExpressionParseError, Licensing, get_spdx_licensing

from pipeline.frame.errors import UserError
from pipeline.text.columns import one_array

KINDS = ("id", "url", "domain", "license")
REASON = "takedown"  # in the ledger, and `dropped_takedown` in the metrics
UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
URL = (
    r"(?s)^(?:(?:[A-Za-z][A-Za-z0-9+.-]*:)?//)?(?:[^/?#]*@)?"
    r"(?P<host>\[[^\]]*\]|[^/?#:]*)(?::(?P<port>[0-9]*))?(?P<path>(?:[/][^?#]*)?)(?P<query>\?[^#]*)?(?:#.*)?$"
)
HOST = r"^(?:\[[0-9a-f:.]+\]|[^\s/?#:@%\[\]\x00-\x1f\x7f-\x{10ffff}]+)$"
ENDS = r"[\s/]+$"


class Tombstone(NamedTuple):
    """One line of the file: what is taken down, why, and when as far as somebody said so."""

    kind: str
    value: str
    reason: str
    date: str = ""

    @property
    def key(self) -> str:
        """How the ledger names it."""
        return f"{self.kind}:{self.value}"


class Tombstones(NamedTuple):
    """The values of each kind, ready for `match`."""

    ids: pa.StringArray
    urls: pa.StringArray
    domains: frozenset[str]
    licenses: tuple[str, ...]


def parse(text: str, name: str = "takedowns.jsonl") -> list[Tombstone]:
    """The tombstones in a file's text. Raises `UserError` that names the line."""
    found: list[Tombstone] = []
    for number, line in enumerate(text.split("\n"), start=1):  # and nothing else ends a line
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
            stone = tombstone(row["kind"], row["value"], row.get("reason", ""), row.get("date", ""))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{name}:{number}: not a tombstone",
                f"{line[:80]} ({error!r})" if not isinstance(error, UserError) else f"{line[:80]} ({error.found})",
                'a line is {"kind": "id, url, domain or license", "value": "…", "reason": "…"}',
            ) from error
        found.append(stone)
    return found


def render(tombstones: Iterable[Tombstone]) -> str:
    """The file's text: sorted, one JSON object a line, each tombstone once (the first one's reason stays)."""
    first: dict[str, Tombstone] = {}
    for stone in tombstones:
        first.setdefault(stone.key, stone)
    rows = [{name: value for name, value in stone._asdict().items() if value} for stone in sorted(first.values())]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def tombstone(kind: str, value: str, reason: str, date: str = "") -> Tombstone:
    """A tombstone with its value in the one spelling that is compared. Raises `UserError` for a kind or value that can't be."""
    if kind not in KINDS:
        raise UserError("takedown: unknown kind", repr(kind), f"use one of {', '.join(KINDS)}")
    written: dict[str, Callable[[str], str]] = {
        "id": str.lower,
        "url": lambda url: str(canonical_urls(pa.array([url]))[0].as_py()),
        "domain": _domain,
        "license": _license,
    }
    canonical = written[kind](value.strip())
    is_good = {
        "id": re.fullmatch(r"[0-9a-f]{32}", canonical),
        "url": hosts(pa.array([canonical]))[0].as_py(),
        "domain": re.fullmatch(r"[^\s/:?#@]+", canonical),
    }
    if not canonical or not is_good.get(kind, True):
        raise UserError(f"takedown: not {'an' if kind == 'id' else 'a'} {kind}", repr(value), "look at its spelling")
    return Tombstone(kind, canonical, reason.strip(), date.strip())


def prepare(tombstones: Sequence[Tombstone]) -> Tombstones:
    """Sorted into kinds."""
    values = {kind: [stone.value for stone in tombstones if stone.kind == kind] for kind in KINDS}
    return Tombstones(
        pa.array(values["id"], pa.string()),
        pa.array(values["url"], pa.string()),
        frozenset(values["domain"]),
        tuple(values["license"]),
    )


def match(docs: pa.RecordBatch | pa.Table, stones: Tombstones) -> pa.StringArray:
    """For each document (columns id, url, license) the key of the tombstone that covers it, or null."""
    keys = [pa.nulls(docs.num_rows, pa.string())]
    if len(stones.ids):
        keys.append(_keys("id", stones.ids, one_array(docs.column("id"))))
    if len(stones.urls):
        keys.append(_keys("url", stones.urls, canonical_urls(one_array(docs.column("url")))))
    if stones.domains:
        keys.append(_by_value(hosts(one_array(docs.column("url"))), lambda host: _covering(host, stones.domains)))
    if stones.licenses:
        keys.append(_by_value(one_array(docs.column("license")), lambda name: _needed(name, stones.licenses)))
    return pc.coalesce(*keys)


def _keys(kind: str, values: pa.StringArray, column: pa.StringArray) -> pa.StringArray:
    names = pa.array([f"{kind}:{value}" for value in values.to_pylist()], pa.string())
    return names.take(pc.index_in(column, value_set=values))


def _by_value(column: pa.StringArray, judge: Callable[[str], str | None]) -> pa.StringArray:
    """Each value of a column is judged once."""
    encoded = column.dictionary_encode()
    verdicts = pa.array([judge(value) for value in encoded.dictionary.to_pylist()], pa.string())
    return verdicts.take(encoded.indices)


def canonical_urls(urls: pa.StringArray) -> pa.StringArray:
    """host[:port]/path?query, each in the one spelling that is compared; what has no host is only trimmed.

    What has this spelling keeps it: the file of tombstones may be read and written any number of times.
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
    joined = _percent(pc.binary_join_element_wise(host, port, path, query, ""))
    is_host = pc.fill_null(pc.match_substring_regex(host, HOST), False)
    return pc.if_else(is_host, joined, trimmed)


def hosts(urls: pa.StringArray) -> pa.StringArray:
    """The host of each URL in lower case, ASCII form; empty where there is none."""
    return pc.fill_null(_lower_hosts(pc.struct_field(pc.extract_regex(pc.utf8_trim_whitespace(urls), URL), 0)), "")


def _lower_hosts(host: pa.StringArray) -> pa.StringArray:
    lower = pc.utf8_rtrim(pc.utf8_lower(host), ".")
    if pc.all(pc.string_is_ascii(lower)).as_py() in (True, None):
        return lower
    return pa.array([name and _ascii_host(name) for name in lower.to_pylist()], pa.string())


def _ascii_host(name: str) -> str:
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _percent(urls: pa.StringArray) -> pa.StringArray:
    """Percent signs only where they must be, in capitals; other letters than ASCII always behind them."""
    is_odd = pc.or_(pc.match_substring(urls, "%"), pc.invert(pc.string_is_ascii(urls)))
    if not pc.any(is_odd).as_py():
        return urls
    mended = pa.array([url and _percent_one(url) for url in urls.filter(is_odd).to_pylist()], pa.string())
    return pc.replace_with_mask(urls, is_odd, mended)


def _percent_one(url: str) -> str:
    ascii_url = quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", url), safe="%!$&'()*+,;=:@/?[]\"<>\\^`{|} #~")

    def one(found: re.Match[str]) -> str:
        letter = chr(int(found[1], 16))
        return letter if letter in UNRESERVED else found[0].upper()

    return re.sub(r"%([0-9A-Fa-f]{2})", one, ascii_url)


def _domain(value: str) -> str:
    return _ascii_host(value.lower().removeprefix("*").strip("."))


def _covering(host: str, domains: frozenset[str]) -> str | None:
    """`domain:…` for the host itself or the nearest domain above it."""
    while host:
        if host in domains:
            return f"domain:{host}"
        host = host.partition(".")[2]
    return None


def _needed(expression: str, licenses: Sequence[str]) -> str | None:
    return next((f"license:{license}" for license in licenses if needs(expression, license)), None)


def needs(expression: str, license: str) -> bool:
    """Whether an SPDX expression does not hold without `license`. What is no SPDX is compared letter for letter."""
    if expression == license:
        return True
    parsed = _parsed(expression)
    return parsed is not None and _falls(parsed, license)


def _falls(node: Any, license: str) -> bool:
    rendered = str(node.render())
    if rendered == license:
        return True
    if node.args:
        verdicts = [_falls(child, license) for child in node.args]
        return any(verdicts) if node.operator.strip() == "AND" else all(verdicts)
    return hasattr(node, "license_symbol") and str(node.license_symbol.render()) == license


def _license(value: str) -> str:
    parsed = _parsed(value)
    return value if parsed is None else str(parsed.render())


@cache
def _parsed(expression: str) -> Any:
    try:
        return _spdx().parse(expression)
    except (ExpressionError, ExpressionParseError):
        return None


@cache
def _spdx() -> Licensing:
    return get_spdx_licensing()

"""Read licenses as people spell them: lists, objects, names and addresses become SPDX expressions.

In: the text of a document's license column. Out: an SPDX expression, `""` for an unknown license, or the text itself if it is none
of the forms below. Pure functions, cached: a corpus has few distinct licenses.

Covers: JSON and Python lists (all of the licenses apply: AND) and objects (`spdx_id`, `id`, `name`, `type`, `url` …, GitHub's and
npm's); names of the MIT, Apache, BSD, GNU, Mozilla, Eclipse, Boost, Python, ISC, zlib, Artistic, Open Data Commons and Creative
Commons licenses with their versions; addresses on creativecommons.org (ported versions too), opensource.org, gnu.org, apache.org,
spdx.org, mozilla.org, opendatacommons.org, choosealicense.com and GitHub; several of these joined by and, or, a comma (AND) or a
slash (OR).
Does not cover: license texts; names without a version where the license has several ("GPL", "CC BY"), which stay as they are.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

MAX_CHARS = 2_000  # a longer text is a license text, not its name
UNKNOWN_NAMES = frozenset(
    (
        "",
        "-",
        "?",
        "unknown",
        "noassertion",
        "none",
        "null",
        "nil",
        "nan",
        "n/a",
        "na",
        "unspecified",
        "not specified",
        "[]",
        "{}",
    )
)
_KEYS = (
    "spdx_id",
    "spdx",
    "spdx_expression",
    "expression",
    "id",
    "identifier",
    "key",
    "name",
    "type",
    "license",
    "title",
    "url",
    "href",
)

_CC_PARTS = {"attribution": "by", "noncommercial": "nc", "noderivatives": "nd", "noderivs": "nd", "sharealike": "sa"}
_CC_TEXT = re.compile(
    r"(?:creative commons|cc)[ -]+((?:(?:by|nc|nd|sa|attribution|noncommercial|noderivatives|noderivs|sharealike)[ -]+)+)"
    r"(?:v(?:ersion)? ?)?([1-4](?:\.\d)?)(?: (international|unported|generic|[a-z]{2}))?(?: public)?"
)
_CC_ZERO = re.compile(
    r"(?:creative commons |cc )?(?:cc ?-?0|zero)(?:[ -]v?1\.0)?(?: universal)?(?: cc0 1\.0)?(?: public domain dedication)?"
)
_GNU = re.compile(
    r"(?:gnu )?(?:(affero|lesser|library) )?(?:general public(?: license)?|(a|l)?gpl|(free documentation(?: license)?|g?fdl))"
    r"[ -]*(?:v ?|version )?([1-3](?:\.\d)?)(?:\.0)?( ?\+|[ -]+or[ -]+(?:later|newer|greater|any later)(?: version)?|[ -]+only)?"
)
_VERSIONED = {
    r"apache(?: software| public)?": ("Apache", "1.0 1.1 2.0"),
    r"(?:mozilla public|mpl)": ("MPL", "1.0 1.1 2.0"),
    r"(?:eclipse public|epl)": ("EPL", "1.0 2.0"),
    r"(?:boost(?: software)?|bsl)": ("BSL", "1.0"),
    r"(?:artistic)": ("Artistic", "1.0 2.0"),
    r"(?:european union public|eupl)": ("EUPL", "1.0 1.1 1.2"),
    r"(?:python software foundation|psf)": ("PSF", "2.0"),
    r"(?:python)": ("Python", "2.0"),
    r"(?:open(?: data commons open)? database|odbl)": ("ODbL", "1.0"),
    r"(?:open data commons attribution|odc[ -]by)": ("ODC-By", "1.0"),
}
_PLAIN = {
    "MIT": r"(?:mit|expat|mit/expat|mit expat)",
    "ISC": r"isc",
    "Zlib": r"zlib(?:/libpng)?",
    "Unlicense": r"unlicense",
    "WTFPL": r"wtfpl",
    "0BSD": r"(?:0bsd|bsd 0-clause|(?:bsd )?zero[ -]clause(?: bsd)?)",
    "BSD-2-Clause": r"(?:bsd[ -]2(?:[ -]clause)?(?: simplified)?|2[ -]clause bsd|(?:simplified|freebsd)(?: bsd)?)",
    "BSD-3-Clause": r"(?:bsd[ -]3(?:[ -]clause)?(?: (?:new or revised|new|revised|modified))?|3[ -]clause bsd"
    r"|(?:new or revised|new|modified|revised) bsd)",
    "BSD-4-Clause": r"(?:bsd[ -]4(?:[ -]clause)?|4[ -]clause bsd|original bsd)",
    "PSF-2.0": r"(?:python software foundation|psfl?)",
    "BSL-1.0": r"boost(?: software)?",
    "ODbL-1.0": r"(?:odbl|open(?: data commons open)? database)",
    "CC-PDDC": r"creative commons public domain(?: dedication)?",
}
_CC_URL = re.compile(
    r"creativecommons\.org/(?:licen[cs]es/([a-z+-]+)/([1-4]\.\d)(?:/([a-z]{2,3})(?=/|$))?|publicdomain/(zero|mark)/1\.0"
    r"|licen[cs]es/(publicdomain))"
)
_URLS = (
    (
        re.compile(
            r"(?:spdx\.org/licenses|choosealicense\.com/licenses|api\.github\.com/licenses)/([a-z0-9.+-]+?)(?:\.(?:html|json|txt))?/?$"
        ),
        "",
    ),
    (re.compile(r"opensource\.org/licen[cs]es?/([a-z0-9.-]+?)(?:-license(?:-txt)?)?(?:\.(?:php|html))?/?$"), ""),
    (re.compile(r"gnu\.org/(?:licen[cs]es|copyleft)/(?:old-licenses/)?([al]?gpl|fdl)-(\d\.\d)"), ""),
    (re.compile(r"apache\.org/licen[cs]es/license-(\d\.\d)"), "Apache-"),
    (re.compile(r"mozilla\.org/(?:[a-z]{2}(?:-[a-z]{2})?/)?mpl/(\d\.\d)"), "MPL-"),
    (re.compile(r"eclipse\.org/(?:legal|org/documents)/epl-(?:v20|2\.0)()"), "EPL-2.0"),
    (re.compile(r"eclipse\.org/(?:legal|org/documents)/epl-v10()"), "EPL-1.0"),
    (re.compile(r"boost\.org/license_(1)_0"), "BSL-1.0"),
    (re.compile(r"opendatacommons\.org/licen[cs]es/(odbl|by|pddl)"), "odc"),
    (re.compile(r"(unlicense)\.org"), ""),
)
_URL = re.compile(r"(?:https?://|www\.|creativecommons\.org/|opensource\.org/|spdx\.org/)[^\s'\"<>]+", re.IGNORECASE)


@lru_cache(maxsize=1 << 14)
def normalize_license(text: str) -> str:
    """Return the SPDX expression of a license, `""` if it is unknown, or the stripped text if it can't be read."""
    text = text.strip()
    if len(text) > MAX_CHARS:
        return text
    if text[:1] in ("[", "{", '"', "'") or text[-1:] in ("]", "}"):
        value = _load(text)
        if value is not None:
            return _join(_list_licenses(value))
    if text.lower() in UNKNOWN_NAMES:
        return ""
    return _read_name(text) or _read_list(text) or text


def _load(text: str) -> Any:
    """Return the value of JSON or of a Python literal, or None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _list_licenses(value: Any) -> list[str]:
    """Return the licenses in a list or an object, in order and once each; an unknown one is `unknown`."""
    if isinstance(value, dict):
        named: dict[str, Any] = {str(key).lower(): each for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
        value = next(
            (named[key] for key in _KEYS if named.get(key) and str(named[key]).lower() not in UNKNOWN_NAMES), ""
        )
        return _list_licenses(value) if not isinstance(value, str) else [normalize_license(value) or "unknown"]
    if isinstance(value, (list, tuple, set)):
        items: Iterable[Any] = value  # pyright: ignore[reportUnknownVariableType]
        return list(dict.fromkeys(each for item in items for each in _list_licenses(item)))
    return [normalize_license("" if value is None else str(value)) or "unknown"]


def _join(licenses: list[str]) -> str:
    """Return the expression that requires all of the licenses."""
    if not licenses or licenses == ["unknown"]:
        return ""
    parts = [
        f"({each})" if len(licenses) > 1 and re.search(r"\s(?:AND|OR)\s", each, re.IGNORECASE) else each
        for each in licenses
    ]
    return " AND ".join(parts)


def _read_name(text: str) -> str:
    """Return the SPDX id of one name or address, or an empty string."""
    url = _URL.search(text)
    if url is not None:
        return _read_url(url.group().rstrip(").,;>"))
    outer, inner = re.fullmatch(r"(.*?)\s*(?:\(([^()]*)\))?", text.rpartition("::")[2].strip(), re.DOTALL).groups()  # pyright: ignore
    names = {_read_plain_name(part) for part in (text, outer, inner or "", re.sub(r"\([^()]*\)", "", text))} - {""}
    return names.pop() if len(names) == 1 else ""


def _read_plain_name(text: str) -> str:
    """Return the SPDX id of one name without its abbreviation in parentheses, or an empty string."""
    name = re.sub(
        r"[\"'“”,()_®™]", " ", text.lower().removeprefix("license:").replace("non-commercial", "noncommercial")
    )
    name = re.sub(r"\b(no|share)[ -]?(derivatives|derivs|alike)\b", r"\1\2", name)
    name = re.sub(r"\b(?:the|licen[cs]es?d?|under)\b|(?<=\d)[.]$", " ", name)
    name = " ".join(re.sub(r"\s*-\s+|\s+-\s*", " ", name).split())
    return _read_creative_commons(name) or _read_gnu(name) or _read_family(name)


def _read_creative_commons(name: str) -> str:
    """Return the id of a Creative Commons license by its name."""
    if _CC_ZERO.fullmatch(name):
        return "CC0-1.0"
    found = _CC_TEXT.fullmatch(name)
    if found is None:
        return ""
    parts = [_CC_PARTS.get(part, part) for part in re.split(r"[ -]+", found.group(1).strip(" -"))]
    ported = found.group(3) if found.group(3) and len(found.group(3)) == 2 else None
    version = found.group(2) if "." in found.group(2) else f"{found.group(2)}.0"
    return _make_cc_id(parts, version, ported)


def _make_cc_id(parts: list[str], version: str, ported: str | None) -> str:
    """Return the id with its parts in SPDX's order; version 1.0 has both BY-ND-NC and BY-NC-ND."""
    if version != "1.0":
        parts = [part for part in ("by", "nc", "nd", "sa") if part in parts]
    return f"CC-{'-'.join(parts).upper()}-{version}" + (f"-{ported.upper()}" if ported else "")


def _read_gnu(name: str) -> str:
    """Return the id of a GNU license by its name; `GPL-3` and `GPL v3` are GPL-3.0-only."""
    found = _GNU.fullmatch(name)
    if found is None:
        return ""
    kind, letter, fdl, version, rest = found.groups()
    family = (
        "GFDL"
        if fdl
        else {"affero": "A", "lesser": "L", "library": "L"}.get(kind or "", (letter or "").upper()) + "GPL"
    )
    version = version if "." in version else f"{version}.0"
    return f"{family}-{version}-{'or-later' if rest and 'only' not in rest else 'only'}"


def _read_family(name: str) -> str:
    """Return the id of another license by its name."""
    for pattern, (family, versions) in _VERSIONED.items():
        found = re.fullmatch(pattern + r"[ -]*(?:v ?\.?|version )?(\d(?:\.\d)?)?", name)
        version = found and found.group(1) and (found.group(1) if "." in found.group(1) else f"{found.group(1)}.0")
        if version and version in versions.split():
            return f"{family}-{version}"
    return next((license for license, pattern in _PLAIN.items() if re.fullmatch(pattern, name)), "")


def _read_url(url: str) -> str:
    """Return the id of a license by its address, or an empty string."""
    address = re.sub(r"^https?://(?:www\.)?|^www\.|[?#].*$", "", url.lower())
    found = _CC_URL.match(address)
    if found is not None:
        kind, version, ported, public, old = found.groups()
        if kind is None:
            return "CC-PDDC" if old else {"zero": "CC0-1.0", "mark": "CC-PDM-1.0"}[public]
        return _make_cc_id(
            re.split(r"[-+]", kind), version, ported if ported and len(ported) < 4 and ported != "deed" else None
        )
    for pattern, prefix in _URLS:
        found = pattern.match(address)
        if found is None:
            continue
        if prefix == "odc":
            return {"odbl": "ODbL-1.0", "by": "ODC-By-1.0", "pddl": "PDDL-1.0"}[found.group(1)]
        if len(found.groups()) == 2:
            return _read_gnu(f"{found.group(1)} {found.group(2)}")
        name = re.sub(r"-(\d)-(\d)(?=$|-)", r"-\1.\2", found.group(1))
        return prefix if prefix.endswith(".0") else _read_name(name) or prefix + name
    return ""


def _read_list(text: str) -> str:
    """Return the expression of several known names, joined by and, a comma, a semicolon (AND), or, a slash, a bar (OR)."""
    pieces = re.split(r"(\s+(?:and|or|AND|OR)\s+|\s*[,;&|/]\s*)", text)
    if len(pieces) < 3 or _URL.search(text) or any(mark in text for mark in "()"):
        return ""
    names = [_read_name(name) or (name if re.fullmatch(r"[A-Za-z0-9.+-]+", name) else "") for name in pieces[::2]]
    joints = ["OR" if joint.strip().lower() in ("or", "/", "|") else "AND" for joint in pieces[1::2]]
    if not all(names) or len(set(joints)) > 1 or not any(_read_name(name) for name in pieces[::2]):
        return ""
    return f" {joints[0]} ".join(names)

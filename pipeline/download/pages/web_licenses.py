"""Map the URLs that web pages link to with `rel=license` to SPDX licenses.

In: URLs. Out: SPDX expressions, or `unknown`. Covers Creative Commons deeds of any version, the public domain dedication, and the
license pages of GNU, Apache and the Open Source Initiative. A license ported to a country (`/by-sa/3.0/us/`) keeps its own id
where SPDX has one, else it is mapped to the unported one of the same version. A URL without a version names no license.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from urllib.parse import urlsplit

from license_expression import get_license_index

UNKNOWN = "unknown"
GNU = {
    "fdl-1.1": "GFDL-1.1-only",
    "fdl-1.2": "GFDL-1.2-only",
    "fdl-1.3": "GFDL-1.3-only",
    "old-licenses/fdl-1.1": "GFDL-1.1-only",
    "old-licenses/fdl-1.2": "GFDL-1.2-only",
    "gpl-2.0": "GPL-2.0-only",
    "old-licenses/gpl-2.0": "GPL-2.0-only",
    "gpl-3.0": "GPL-3.0-only",
    "lgpl-3.0": "LGPL-3.0-only",
    "agpl-3.0": "AGPL-3.0-only",
}


def combine_licenses(urls: Iterable[str]) -> str:
    """Return the licenses of all URLs. Several all apply (`AND`), which is the conservative reading; `unknown` if none is known."""
    licenses = {identify_license(url) for url in urls} - {UNKNOWN}
    return " AND ".join(sorted(licenses)) or UNKNOWN


def identify_license(url: str) -> str:
    """Return the SPDX id of the license that one URL names, or `unknown`."""
    try:
        parts = urlsplit(url.strip())
        host = (parts.hostname or "").removeprefix("www.")
    except ValueError:
        return UNKNOWN
    path = [part for part in parts.path.lower().split("/") if part]
    stem = [*path[:-1], path[-1].partition(".html")[0].partition(".txt")[0]] if path else []
    match host, path:
        case "creativecommons.org", ["publicdomain", "zero", "1.0", *_]:
            return "CC0-1.0"
        case "creativecommons.org", ["licenses", kind, version, *ported]:
            return _find_creative_commons(kind, version, ported[0] if ported else "")
        case "gnu.org", ["licenses", *_]:
            return GNU.get("/".join(stem[1:]), UNKNOWN)
        case "apache.org", ["licenses", "license-2.0" | "license-2.0.html" | "license-2.0.txt"]:
            return "Apache-2.0"
        case "opensource.org", ["license" | "licenses", _]:
            return _load_spdx_ids().get(stem[1], UNKNOWN)
        case _:
            return UNKNOWN


def _find_creative_commons(kind: str, version: str, country: str) -> str:
    ids = _load_spdx_ids()
    base = f"cc-{kind}-{version}"
    return ids.get(f"{base}-{country}", ids.get(base, UNKNOWN))


@cache
def _load_spdx_ids() -> dict[str, str]:
    """Return a map from lower-case ids to their SPDX spelling."""
    keys = (str(entry.get("spdx_license_key") or "") for entry in get_license_index())
    return {key.lower(): key for key in keys if key and not key.startswith("LicenseRef")}

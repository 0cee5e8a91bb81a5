"""The SPDX license of an installed distribution, from what its metadata says and nothing else.

In: core metadata (PEP 566 / PEP 639) and the texts of its license files. Out: an SPDX expression, or `unknown`.
Order: `License-Expression`, license classifiers, a short `License` field. "BSD License" names a family: which member it is
is read off the license text (three clauses forbid endorsement); without a text it stays `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

UNKNOWN = "unknown"
BSD = "BSD"  # a family, not an SPDX identifier

CLASSIFIERS = {
    "Academic Free License (AFL)": "AFL-3.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": BSD,
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "European Union Public License 1.2 (EUPL 1.2)": "EUPL-1.2",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Universal Permissive License (UPL)": "UPL-1.0",
    "Zope Public License": "ZPL-2.1",
    "zlib/libpng License": "Zlib",
}

NAMES = {
    "0bsd": "0BSD",
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "apache-2.0": "Apache-2.0",
    "bsd": BSD,
    "bsd license": BSD,
    "bsd 2-clause": "BSD-2-Clause",
    "bsd 3-clause": "BSD-3-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "new bsd license": "BSD-3-Clause",
    "simplified bsd": "BSD-2-Clause",
    "isc": "ISC",
    "isc license": "ISC",
    "mit": "MIT",
    "mit license": "MIT",
    "the mit license": "MIT",
    "mpl 2.0": "MPL-2.0",
    "mpl-2.0": "MPL-2.0",
    "psf": "PSF-2.0",
    "psf-2.0": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "unlicense": "Unlicense",
    "zlib": "Zlib",
}


def spdx(metadata: Mapping[str, str | list[str]], texts: Sequence[str] = ()) -> str:
    """The license as an SPDX expression; several classifiers all apply (`AND`), which is the careful reading.

    `metadata` is in the JSON form of PEP 566: keys in lower case with underscores.
    """
    expression = str(metadata.get("license_expression", "")).strip()
    if expression:
        return expression
    field = str(metadata.get("license", "")).strip()
    names = _classified(metadata.get("classifier", []))
    if names is None:  # no license classifier, or one that names no license
        names = [NAMES.get(" ".join(field.lower().split()), UNKNOWN)]
    found = [bsd_member([field, *texts]) if name == BSD else name for name in names]
    return UNKNOWN if UNKNOWN in found else " AND ".join(sorted(set(found)))


def _classified(classifiers: Iterable[str]) -> list[str] | None:
    parts = [line.split(" :: ") for line in classifiers]
    names = [line[-1] for line in parts if line[0] == "License" and line[-1] != "OSI Approved"]
    found = [CLASSIFIERS[name] for name in names if name in CLASSIFIERS]
    return found if found and len(found) == len(names) else None


def bsd_member(texts: Iterable[str]) -> str:
    """BSD-3-Clause, BSD-2-Clause or `unknown`, judged by the clauses of the first text that has them."""
    for text in texts:
        words = " ".join(text.lower().split())
        if "redistributions of source code must retain" in words:
            return "BSD-3-Clause" if "endorse or promote products" in words else "BSD-2-Clause"
    return UNKNOWN

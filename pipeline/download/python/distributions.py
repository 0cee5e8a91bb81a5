"""Find the Python sources, the version and the license of installed distributions, without importing them.

In: the name of a distribution, or the folder of the standard library. Out: a `Package`. Test modules, vendored copies of other
projects and generated protobuf modules are left out.
The license is an SPDX expression, or `unknown`, from the core metadata (PEP 566 / PEP 639) and the texts of the license files only.
Order: `License-Expression`, license classifiers, a short `License` field. "BSD License" names a family: which member it is
is read off the license text (three clauses forbid endorsement); without a text it stays `unknown`.
"""

from __future__ import annotations

import csv
import os
import platform
import re
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from pipeline.frame.errors import UserError

STDLIB = "stdlib"
STDLIB_LICENSE = "PSF-2.0"
LICENSE_FILE = re.compile(r"\.dist-info/(.*/)?(LICEN[CS]E|COPYING)[^/]*$", re.IGNORECASE)
SKIPPED_FOLDERS = {
    *("test", "tests", "idle_test", "benchmarks"),  # code about code
    *("site-packages", "dist-packages"),  # other distributions
    *("_vendor", "_vendored", "vendor", "vendored", "externals", "_external"),  # other projects under other licenses
}
GUIDE_SUFFIXES = (".rst", ".md")
NO_GUIDES = re.compile(  # texts that are no prose about the package, or state another license
    r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS|CREDITS|CONTRIBUTORS|CHANGES|CHANGELOG|HISTORY|NEWS|TODO|THIRD|SECURITY|CODE_OF|"
    r"AGENTS|CLAUDE|SKILL)",
    re.IGNORECASE,
)
NO_GUIDE_FOLDERS = ("templates", "ai_commands", "assets")  # texts to fill in, and for agents
SKIPPED_PREFIXES = ("test_", "_test", "_sysconfigdata")
SKIPPED_SUFFIXES = ("_test", "_pb2", "_pb2_grpc")

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


class SourceFile(NamedTuple):
    """A Python source file: its path on disk, its path inside the distribution, its size."""

    path: str
    relative: str
    n_bytes: int


@dataclass(frozen=True)
class Package:
    """An installed distribution and the source files that may hold documentation."""

    name: str
    version: str
    license: str
    files: tuple[SourceFile, ...]
    guides: tuple[SourceFile, ...] = ()  # pages of prose
    has_builtins: bool = False  # the running interpreter's standard library: compiled modules belong to it


def find_standard_library(root: Path | None = None) -> Package:
    """Return the standard library below `root`; by default that of the running interpreter."""
    has_builtins = root is None
    root = root or Path(sysconfig.get_path("stdlib"))
    names: list[str] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED_FOLDERS]  # site-packages may hold 100,000 files
        inside = Path(folder).relative_to(root)
        names += [(inside / name).as_posix() for name in files if name.endswith((".py", *GUIDE_SUFFIXES))]
    files = _select_files(root, sorted(name for name in names if name.endswith(".py")))
    guides = select_guides(root, sorted(names))
    return Package(STDLIB, platform.python_version(), STDLIB_LICENSE, files, guides, has_builtins)


def find_distribution(name: str, setting: str, search_path: Sequence[str] | None = None) -> Package:
    """Return an installed distribution. Raise `UserError` if it is not installed or has no Python sources."""
    path = list(sys.path if search_path is None else search_path)
    distribution = next(iter(metadata.distributions(name=name, path=path)), None)
    if distribution is None:
        raise UserError(
            f"{setting}: the package is not installed",
            repr(name),
            "add it to the requirements and install them, or remove it from download.sources",
        )
    root = Path(str(distribution.locate_file("")))
    names = _read_record(distribution, setting)
    texts = [_read_license(root / name) for name in names if LICENSE_FILE.search(name)]
    files = _select_files(root, [name for name in names if name.endswith((".py", ".pyi"))])
    if not files:
        raise UserError(
            f"{setting}: the package has no Python sources on record",
            f"{name} {distribution.version}",
            "install it from a wheel (not in editable mode), or remove it from download.sources",
        )
    license_ = resolve_license(distribution.metadata.json, texts)
    return Package(name, distribution.version, license_, files, select_guides(root, names))


def _read_record(distribution: metadata.Distribution, setting: str) -> list[str]:
    """Return the installed files, sorted. RECORD is parsed here because the library makes a slow path object of each line."""
    try:
        lines = (distribution.read_text("RECORD") or "").splitlines()
        return sorted({row[0] for row in csv.reader(lines) if row} or {str(file) for file in distribution.files or []})
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{setting}: the package's RECORD can't be read",
            f"{distribution.name} {distribution.version}: {error}",
            "install the package again",
        ) from error


def _read_license(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""  # on record but not on disk: nothing is known from it


def _select_files(root: Path, names: Sequence[str]) -> tuple[SourceFile, ...]:
    """Return the files worth reading; a stub beside its implementation is not one."""
    known = set(names)
    kept = [name for name in names if is_documented(name) and not (name.endswith(".pyi") and name[:-1] in known)]
    return tuple(SourceFile(str(root / name), name, _get_size(root / name)) for name in kept)


def select_guides(root: Path, names: Sequence[str]) -> tuple[SourceFile, ...]:
    """Return the pages of prose among the files."""
    kept = [name for name in names if name.endswith(GUIDE_SUFFIXES) and _is_guide(name)]
    return tuple(SourceFile(str(root / name), name, _get_size(root / name)) for name in kept)


def _is_guide(relative: str) -> bool:
    *folders, last = relative.split("/")
    is_inside = bool(folders) and all(folder.replace("-", "_").isidentifier() for folder in folders)
    is_skipped = any(
        folder in SKIPPED_FOLDERS or folder in NO_GUIDE_FOLDERS or folder.startswith("_") for folder in folders
    )
    return is_inside and not is_skipped and not NO_GUIDES.match(last)


def _get_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0  # on record but not on disk: becomes a reject when it is read


def is_documented(relative: str) -> bool:
    """Return whether a file can hold documentation of its own: no tests, vendored copies, generated or nameless modules."""
    *folders, last = relative.rpartition(".")[0].split("/")
    if SKIPPED_FOLDERS.intersection(folders) or ("testing" in folders and "_internal" in folders):
        return False
    if not all(part.isidentifier() for part in (*folders, last)):
        return False
    return last not in ("conftest", "__main__") and not (
        last.startswith(SKIPPED_PREFIXES) or last.endswith(SKIPPED_SUFFIXES)
    )


def resolve_license(metadata: Mapping[str, str | list[str]], texts: Sequence[str] = ()) -> str:
    """Return the license as an SPDX expression. Several classifiers all apply (`AND`), which is the conservative reading.

    `metadata` is in the JSON form of PEP 566: keys in lower case with underscores.
    """
    expression = str(metadata.get("license_expression", "")).strip()
    if expression:
        return expression
    field = str(metadata.get("license", "")).strip()
    names = _map_classifiers(metadata.get("classifier", []))
    if names is None:  # no license classifier, or one that names no license
        names = [NAMES.get(" ".join(field.lower().split()), UNKNOWN)]
    licenses = [identify_bsd_license([field, *texts]) if name == BSD else name for name in names]
    return UNKNOWN if UNKNOWN in licenses else " AND ".join(sorted(set(licenses)))


def _map_classifiers(classifiers: Iterable[str]) -> list[str] | None:
    """Return the licenses of the classifiers, or None if there are none or one of them is unknown."""
    parts = [line.split(" :: ") for line in classifiers]
    names = [line[-1] for line in parts if line[0] == "License" and line[-1] != "OSI Approved"]
    licenses = [CLASSIFIERS[name] for name in names if name in CLASSIFIERS]
    return licenses if licenses and len(licenses) == len(names) else None


def identify_bsd_license(texts: Iterable[str]) -> str:
    """Return BSD-3-Clause, BSD-2-Clause or `unknown`, judged by the clauses of the first text that has them."""
    for text in texts:
        words = " ".join(text.lower().split())
        if "redistributions of source code must retain" in words:
            return "BSD-3-Clause" if "endorse or promote products" in words else "BSD-2-Clause"
    return UNKNOWN

"""Open a state of the data by name: the workspace, a model version, its run's name, or a Git revision."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator
from pathlib import Path

from pipeline.frame.errors import UserError
from pipeline.ledger.places import DataSnapshot, Lineage, link_snapshot, read_lineage_at
from pipeline.ledger.versions import RegisteredVersions

WORKSPACE = "workspace"
MIN_RUN_NAME = 7  # characters of a version's fingerprint


@contextlib.contextmanager
def open_state(name: str, workspace: DataSnapshot, registry: RegisteredVersions) -> Generator[DataSnapshot]:
    """Yield the data of a state; links to files in DVC's cache exist until the context ends."""
    if name == WORKSPACE:
        yield workspace
        return
    with tempfile.TemporaryDirectory(prefix="minigpt-ledger-") as links:
        yield link_snapshot(name, find_lineage(registry, name), registry.cache, Path(links))


def find_lineage(registry: RegisteredVersions, name: str) -> Lineage:
    """Return the lineage of `v3` (version 3), of a Git revision, or else of the version whose fingerprint starts with `name`.

    Raises `UserError` if there is none.
    """
    if name[:1] == "v" and name[1:].isdigit():
        return _find_version_lineage(registry, name)
    try:
        return read_lineage_at(registry.root, name)
    except UserError:
        if len(name) < MIN_RUN_NAME:
            raise
        versions = [version for version in registry.versions if version.fingerprint.startswith(name)]
        if not versions:
            raise
        return versions[0].made


def _find_version_lineage(registry: RegisteredVersions, name: str) -> Lineage:
    for version in registry.versions:
        if version.number == name[1:]:
            return version.made
    if registry.failure:
        raise registry.failure
    raise UserError(
        f"{name}: no such model version",
        f"{len(registry.versions)} versions",
        f"see `python -m pipeline.registry list`; for a Git tag of that name, give refs/tags/{name}",
    )

"""Find out which registered model versions have seen a document.

In: the registry (pipeline/registry/store.py, only if there is one), DVC's cache and the workspace. Out: for each version the
documents in its token shards, found by the md5 of these shards in its lineage. Versions with the same shards are looked up once:
one pass over a column of ids. Memory: a batch per core, and the ids found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline.frame.errors import UserError
from pipeline.ledger.places import LAST, DvcCache, Lineage, get_folder_out
from pipeline.registry.lineage import Lock, extract_lineage, read_lock
from pipeline.storage.tables import scan_table

NO_REGISTRY = "no registered model versions here (var/mlflow.db)"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of the model: its names, and the lineage of its data."""

    number: str
    aliases: tuple[str, ...]
    fingerprint: str
    made: Lineage

    @property
    def name(self) -> str:
        """`version 3 (champion)`."""
        return f"version {self.number}" + (f" ({', '.join(self.aliases)})" if self.aliases else "")

    @property
    def shards(self) -> str:
        """The md5 of the token shards that it was trained on; empty if its lineage has none."""
        return get_folder_out(self.made, LAST)["md5"]


class Sight(NamedTuple):
    """What a version saw of some documents: id → split; None, with a note, if that can't be determined."""

    version: RegisteredVersion
    splits: dict[str, str] | None
    note: str


class RegisteredVersions:
    """The registered versions of a repository, read once."""

    def __init__(self, root: Path, cache: DvcCache) -> None:
        self.root, self.cache = root, cache
        self.failure: UserError | None = None

    @cached_property
    def versions(self) -> list[RegisteredVersion]:
        """Newest first; empty without a registry, or if it can't be read: then `failure` has the reason."""
        from pipeline.registry.store import explain_failure, has_store, open_store  # only if it is needed: NumPy

        if not has_store(self.root):
            return []
        try:
            with open_store(self.root) as store:
                aliases = store.read_aliases()
                return [
                    RegisteredVersion(
                        version.number,
                        tuple(alias for alias, number in aliases.items() if number == version.number),
                        version.tags.get("fingerprint", ""),
                        store.read_lineage(version),
                    )
                    for version in store.list_versions()
                ]
        except Exception as error:
            failure = error if isinstance(error, UserError) else explain_failure("ledger", error)
            if failure is None:
                raise
            self.failure = failure
            return []

    @property
    def note(self) -> str:
        """Why there are no versions to report."""
        return f"the registered model versions can't be read: {self.failure.found}" if self.failure else NO_REGISTRY

    def find_sights(self, ids: Sequence[str]) -> list[Sight]:
        """Return for each version which of these documents are in its token shards."""
        by_shards: dict[str, tuple[dict[str, str] | None, str]] = {}
        for version in self.versions:
            if version.shards not in by_shards:
                by_shards[version.shards] = self._look_up(version, ids)
        return [Sight(version, *by_shards[version.shards]) for version in self.versions]

    def _look_up(self, version: RegisteredVersion, ids: Sequence[str]) -> tuple[dict[str, str] | None, str]:
        if not version.shards:
            return None, "its lineage names no token shards"
        path = self._find_table(version.shards)
        if path is None:
            return None, f"its data is not in the cache (dvc fetch --all-commits data/{LAST})"
        wanted = pl.LazyFrame({"id": list(ids)}, schema={"id": pl.String})
        rows = scan_table(path).select("id", "split").join(wanted, on="id", how="semi").collect(engine="streaming")
        return dict(rows.iter_rows()), ""

    def _find_table(self, md5: str) -> Path | None:
        """Return docs.parquet of these shards: from the cache, or from the workspace if it has the same shards."""
        cached = self.cache.get_path((self.cache.read_listing(md5) or {}).get("docs.parquet", ""))
        path = self.root / "data" / LAST / "docs.parquet"
        return cached or (path if md5 == self.get_workspace_md5(LAST) and path.exists() else None)

    def get_workspace_md5(self, stage: str) -> str:
        """Return the md5 of what a stage wrote in the workspace, according to dvc.lock."""
        return get_folder_out(extract_lineage(self._lock), stage)["md5"]

    @cached_property
    def _lock(self) -> Lock:
        return read_lock(self.root) if (self.root / "dvc.lock").exists() else {"stages": {}}


def describe_sights(sights: Sequence[Sight], note: str, n_documents: int = 1) -> list[str]:
    """Return one line per version on what it saw of `n_documents` documents; the note if there are no versions."""
    if not sights:
        return [note]
    return [f"{sight.version.name}: {_describe_sight(sight, n_documents)}" for sight in sights]


def _describe_sight(sight: Sight, n_documents: int) -> str:
    if sight.splits is None:
        return sight.note
    trained = sum(split == "train" for split in sight.splits.values())
    held_out = len(sight.splits) - trained
    if n_documents == 1:
        return "trained on it" if trained else "saw it held out, in evaluation only" if held_out else "never saw it"
    return f"trained on {trained:,} of them, saw {held_out:,} held out" if sight.splits else "saw none of them"

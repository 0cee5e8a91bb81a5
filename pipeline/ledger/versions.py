"""Which registered model versions have seen a document?

In: the registry (pipeline/registry/store.py, only if there is one), DVC's cache and the workspace. Out: for each version the documents
that lie in its token shards, by the md5 of these shards in its lineage. Versions with the same shards are looked up once: one pass
over a column of ids. Memory: a batch for each core, and the ids found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import polars as pl

from pipeline.frame.errors import UserError
from pipeline.ledger.places import LAST, DvcCache, Lineage, folder_out
from pipeline.registry import lineage
from pipeline.storage.tables import scan_table

NO_REGISTRY = "no registered model versions here (var/mlflow.db)"


@dataclass(frozen=True)
class Registered:
    """One version of the model: what it is called and what it was made of."""

    number: str
    aliases: tuple[str, ...]
    fingerprint: str
    made: Lineage

    @property
    def name(self) -> str:
        return f"version {self.number}" + (f" ({', '.join(self.aliases)})" if self.aliases else "")

    @property
    def shards(self) -> str:
        """md5 of the token shards it was trained on; empty if its lineage has none."""
        return folder_out(self.made, LAST)["md5"]


class Sight(NamedTuple):
    """What a version saw of some documents: id → split; None where nobody can say, and why."""

    version: Registered
    splits: dict[str, str] | None
    note: str


class RegisteredVersions:
    """The registered versions of a repository, asked once."""

    def __init__(self, root: Path, cache: DvcCache) -> None:
        self.root, self.cache = root, cache
        self.trouble: UserError | None = None

    @cached_property
    def versions(self) -> list[Registered]:
        """Newest first; none without a registry, nor where it can't be read: then `trouble` says why."""
        from pipeline.registry.store import explain_failure, has_store, open_store  # NumPy and more: only if needed

        if not has_store(self.root):
            return []
        try:
            with open_store(self.root) as store:
                aliases = store.read_aliases()
                return [
                    Registered(
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
            self.trouble = failure
            return []

    @property
    def note(self) -> str:
        """Why there are no versions to tell of."""
        return f"the registered model versions can't be read: {self.trouble.found}" if self.trouble else NO_REGISTRY

    def saw(self, ids: Sequence[str]) -> list[Sight]:
        """For each version which of these documents it was made of."""
        known: dict[str, tuple[dict[str, str] | None, str]] = {}
        for version in self.versions:
            if version.shards not in known:
                known[version.shards] = self._look(version, ids)
        return [Sight(version, *known[version.shards]) for version in self.versions]

    def _look(self, version: Registered, ids: Sequence[str]) -> tuple[dict[str, str] | None, str]:
        if not version.shards:
            return None, "its lineage names no token shards"
        path = self._table(version.shards)
        if path is None:
            return None, f"its data is not in the cache (dvc fetch --all-commits data/{LAST})"
        wanted = pl.LazyFrame({"id": list(ids)}, schema={"id": pl.String})
        found = scan_table(path).select("id", "split").join(wanted, on="id", how="semi").collect(engine="streaming")
        return dict(found.iter_rows()), ""

    def _table(self, md5: str) -> Path | None:
        """docs.parquet of these shards: in the workspace if it holds the same, else in the cache."""
        path = self.cache.path((self.cache.listing(md5) or {}).get("docs.parquet", ""))
        here = self.root / "data" / LAST / "docs.parquet"
        return path or (here if md5 == self.here(LAST) and here.exists() else None)

    def here(self, stage: str) -> str:
        """md5 of what the stage made in the workspace, as dvc.lock has it."""
        return folder_out(lineage.extract_lineage(self._lock), stage)["md5"]

    @cached_property
    def _lock(self) -> lineage.Lock:
        return lineage.read_lock(self.root) if (self.root / "dvc.lock").exists() else {"stages": {}}


def told(sights: Sequence[Sight], note: str, n_asked: int = 1) -> list[str]:
    """One line a version; the note if there is none."""
    if not sights:
        return [note]
    return [f"{sight.version.name}: {_told(sight, n_asked)}" for sight in sights]


def _told(sight: Sight, n_asked: int) -> str:
    if sight.splits is None:
        return sight.note
    trained = sum(split == "train" for split in sight.splits.values())
    held_out = len(sight.splits) - trained
    if n_asked == 1:
        return "trained on it" if trained else "saw it held out, in evaluation only" if held_out else "never saw it"
    return f"trained on {trained:,} of them, saw {held_out:,} held out" if sight.splits else "saw none of them"

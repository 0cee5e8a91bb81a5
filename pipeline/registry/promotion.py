"""Which version is in use: judge, promote, roll back, pull, over any store of versions with tags and aliases.

In: a `Store`. Out: tags (gate, gate_reason, gate_against, forced_reason, rolled_back) and the aliases candidate, champion
and previous on its versions, and the champion's folder in var/champion. Every command can be repeated: what was cut short
halfway is finished by the next call, and at no moment is there no champion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pipeline.frame.errors import UserError
from pipeline.registry import champion, gate
from pipeline.registry.params import Registry

NAME = "minigpt"  # of the registered model
ALIASES = ("champion", "candidate", "previous")
MAX_TAG_CHARS = 5000


@dataclass(frozen=True)
class Version:
    """One version of the model."""

    number: str
    run_id: str
    tags: Mapping[str, str]
    made_at: datetime


class Store(Protocol):
    """What is asked of a registry."""

    @property
    def root(self) -> Path: ...
    def aliases(self) -> dict[str, str]: ...
    def versions(self) -> Sequence[Version]: ...  # newest first
    def tag(self, number: str, key: str, value: str) -> None: ...
    def point(self, alias: str, number: str) -> None: ...
    def unpoint(self, alias: str) -> None: ...
    def metrics(self, version: Version) -> dict[str, float]: ...  # of evaluate
    def documents(self, version: Version) -> gate.DocumentLosses: ...
    def fetch(self, version: Version, folder: Path) -> None: ...  # model/ and index/ into an empty folder


def find(store: Store, number: str) -> Version:
    """One version. Raises `UserError` if there is no such number."""
    versions = store.versions()
    for version in versions:
        if version.number == number:
            return version
    raise UserError(f"version {number}: not in the registry", f"{len(versions)} versions", "see `list`")


def judge(store: Store, policy: Registry, number: str | None) -> tuple[str, gate.Verdict]:
    """Compares a version (default: the candidate) with the champion and writes the verdict on it as tags."""
    aliases = store.aliases()
    number = number or aliases.get("candidate") or aliases.get("champion")
    if number is None:
        raise UserError("gate: nothing to judge", "an empty registry", "run `make run`, or publish a finished pipeline")
    version, current = find(store, number), aliases.get("champion")
    if number == current:
        return number, gate.Verdict(True, "it is the champion already", ())
    verdict = gate.judge(policy, measured(store, version), measured(store, find(store, current)) if current else None)
    if "rolled_back" in version.tags:
        reason = f"it was rolled back on {version.tags['rolled_back']}; `promote --force REASON` brings it back"
        verdict = gate.Verdict(False, reason, verdict.checks)
    store.tag(number, "gate_reason", verdict.reason[:MAX_TAG_CHARS])
    store.tag(number, "gate_against", current or "none")
    store.tag(number, "gate", "passed" if verdict.is_passed else "refused")
    return number, verdict


def measured(store: Store, version: Version) -> gate.Measured:
    """What evaluate measured of a version."""
    return gate.Measured(store.metrics(version), store.documents(version))


def promote(store: Store, number: str | None, force: str) -> tuple[str, str]:
    """champion ← a version that passed the gate against this very champion. The version, and what happened."""
    aliases = store.aliases()
    current = aliases.get("champion")
    number = number or aliases.get("candidate") or current
    if number is None:
        raise UserError("promote: nothing to promote", "an empty registry", "publish a finished pipeline first")
    if number == current:
        said = f"version {number} is the champion already"
    else:
        _check_promotable(find(store, number), current, force)
        if force:
            store.tag(number, "forced_reason", force[:MAX_TAG_CHARS])
        if current:
            store.point("previous", current)
        store.point("champion", number)
        said = f"version {number} is the champion now" + (f", version {current} the previous one" if current else "")
    if aliases.get("candidate") == number:
        store.unpoint("candidate")
    pull(store, "champion", None)
    return number, said


def _check_promotable(version: Version, current: str | None, force: str) -> None:
    if force:
        return
    verdict, against = version.tags.get("gate"), version.tags.get("gate_against")
    if verdict == "passed" and against == (current or "none"):
        return
    if verdict == "passed":
        found = f"it passed against {against}, but the champion is {current or 'none'} by now"
    else:
        reason = version.tags.get("gate_reason", "")
        found = f"the gate refused it: {reason}" if verdict else "it has not been through the gate"
    raise UserError(f"promote: version {version.number} may not", found, "run gate, or promote --force REASON")


def rollback(store: Store) -> str:
    """champion ← previous, and var/champion with it; the version that goes is marked, so that no flow brings it back."""
    aliases = store.aliases()
    current, previous = aliases.get("champion"), aliases.get("previous")
    if current is None or previous is None:
        found = f"champion: {current or 'none'}, previous: none"
        raise UserError("rollback: no previous champion", found, "promote a version instead: see `list`")
    if current != previous:  # else an earlier rollback came as far as the alias
        store.tag(current, "rolled_back", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"))
        store.point("champion", previous)
    pull(store, "champion", None)
    store.unpoint("previous")
    went = f", version {current} is marked as rolled back" if current != previous else ""
    return f"version {previous} is the champion again{went}"


def pull(store: Store, alias_or_version: str, to: Path | None) -> tuple[str, Path]:
    """Fetch model and index of a version: the champion into var/champion, any version into a folder of one's own."""
    aliases = store.aliases()
    number = alias_or_version if alias_or_version.isdigit() else aliases.get(alias_or_version)
    if number is None:
        found = ", ".join(f"{alias} = {at}" for alias, at in aliases.items()) or "no aliases at all"
        raise UserError(f"pull: no version is {alias_or_version}", found, "see `list`")
    version = find(store, number)
    alias = next((alias for alias in ALIASES if aliases.get(alias) == number), "")
    about = {"name": NAME, "version": number, "alias": alias}

    def fill(folder: Path) -> None:
        store.fetch(version, folder)

    if to is not None:
        return number, champion.copy_to(to, about, fill)
    if alias != "champion":
        raise UserError(f"pull: version {number} is not the champion", f"alias: {alias or 'none'}", "give --to FOLDER")
    # Folders without the v were pulled before versions had an index: they are fetched anew.
    return number, champion.install(store.root, f"v{number}-{version.tags['fingerprint'][:12]}", about, fill)

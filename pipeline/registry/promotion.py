"""Decide which version is the champion: judge, promote, roll back and pull, over any store of versions with tags and aliases.

In: a `Store`. Out: tags (gate, gate_outcome, gate_reason, gate_against, forced_reason, rolled_back) and the aliases candidate,
champion and previous on its versions, and the champion's folder var/champion. Every command can be repeated: the next call
completes one that was interrupted, and there is a champion at every moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from pipeline.frame.errors import UserError
from pipeline.registry import champion, gate
from pipeline.registry.paired.differences import ItemScores
from pipeline.registry.params import Registry

NAME = "minigpt"  # of the registered model
ALIASES = ("champion", "candidate", "previous")
MAX_TAG_CHARS = 5000
STATED = {
    "fingerprint": "fingerprint",
    "commit": "git_commit",
}  # of a version's tags, in version.json: where the model comes from
DIGEST = "files_sha256"  # the tag of a version that states what its files are: the digest of the artifact files.json of its run


@dataclass(frozen=True)
class Version:
    """One version of the model."""

    number: str
    run_id: str
    tags: Mapping[str, str]
    made_at: datetime


class Store(Protocol):
    """What promotion needs of a registry."""

    @property
    def root(self) -> Path: ...
    def read_aliases(self) -> dict[str, str]: ...
    def list_versions(self) -> Sequence[Version]: ...  # newest first
    def set_tag(self, number: str, key: str, value: str) -> None: ...
    def set_alias(self, alias: str, number: str) -> None: ...
    def delete_alias(self, alias: str) -> None: ...
    def read_metrics(self, version: Version) -> dict[str, float]: ...  # of evaluate
    def read_items(self, version: Version) -> Mapping[str, ItemScores]: ...  # empty: an earlier release stored none
    def fetch(
        self, version: Version, folder: Path
    ) -> None: ...  # model/ and index/ into an empty folder, after checking them
    def check(self, version: Version, folder: Path) -> None: ...  # that such a folder is still what was published


def find_version(store: Store, number: str) -> Version:
    """Return a version by its number. Raises `UserError` if there is none."""
    versions = store.list_versions()
    for version in versions:
        if version.number == number:
            return version
    raise UserError(
        f"version {number}: not in the registry", f"{len(versions)} versions", "see `python -m pipeline.registry list`"
    )


def judge_version(store: Store, policy: Registry, number: str | None) -> tuple[str, gate.Verdict]:
    """Compare a version (default: the candidate) with the champion, and store the verdict in its tags.

    Return the version's number and the verdict. Raises `UserError` for an empty registry or an unknown number.
    """
    aliases = store.read_aliases()
    number = number or aliases.get("candidate") or aliases.get("champion")
    if number is None:
        raise UserError("gate: nothing to judge", "an empty registry", "run `make run`, or publish a finished pipeline")
    version, current = find_version(store, number), aliases.get("champion")
    if number == current:
        return number, gate.Verdict("equal", True, "it is the champion already", ())
    incumbent = read_measurements(store, find_version(store, current)) if current else None
    verdict = gate.judge(policy, read_measurements(store, version), incumbent)
    if "rolled_back" in version.tags:
        reason = f"it was rolled back on {version.tags['rolled_back']}; `promote --force REASON` overrides this"
        verdict = replace(verdict, is_passed=False, reason=reason)
    store.set_tag(number, "gate_reason", verdict.reason[:MAX_TAG_CHARS])
    store.set_tag(number, "gate_against", current or "none")
    store.set_tag(number, "gate_outcome", verdict.outcome)
    store.set_tag(number, "gate", "passed" if verdict.is_passed else "refused")
    return number, verdict


def read_measurements(store: Store, version: Version) -> gate.Measurements:
    """Return what `evaluate` measured for a version."""
    return gate.Measurements(store.read_metrics(version), store.read_items(version))


def promote(store: Store, number: str | None, force: str) -> tuple[str, str]:
    """Make a version that passed the gate against the present champion (default: the candidate) the champion, and pull it.

    Return its number and a message. Raises `UserError` for a version that the gate refused or has not judged; a reason in `force`
    overrides the gate and is kept as a tag.
    """
    aliases = store.read_aliases()
    current = aliases.get("champion")
    number = number or aliases.get("candidate") or current
    if number is None:
        raise UserError("promote: nothing to promote", "an empty registry", "publish a finished pipeline first")
    if number == current:
        message = f"version {number} is the champion already"
    else:
        version = find_version(store, number)
        _check_promotable(version, current, force)
        _download(store, version)  # a version whose files are not as published is refused before it is the champion
        if force:
            store.set_tag(number, "forced_reason", force[:MAX_TAG_CHARS])
        if current:
            store.set_alias("previous", current)
        store.set_alias("champion", number)
        message = f"version {number} is the champion now" + (
            f"; version {current} is the previous one" if current else ""
        )
    if aliases.get("candidate") == number:
        store.delete_alias("candidate")
    pull(store, "champion", None)
    return number, message


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
    raise UserError(
        f"promote: version {version.number} can't be promoted",
        found,
        f"run `gate --version {version.number}`, or override the gate: promote --force REASON",
    )


def rollback(store: Store) -> str:
    """Make the previous champion the champion again, and pull it; return a message.

    The version that is replaced is tagged as rolled back, so that the gate refuses it from now on. Raises `UserError` if there is
    no previous champion.
    """
    aliases = store.read_aliases()
    current, previous = aliases.get("champion"), aliases.get("previous")
    if current is None or previous is None:
        found = f"champion: {current or 'none'}, previous: none"
        raise UserError("rollback: no previous champion", found, "promote another version: see `list`")
    _download(store, find_version(store, previous))
    if current != previous:  # otherwise an earlier, interrupted rollback has already moved the alias
        store.set_tag(current, "rolled_back", datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"))
        store.set_alias("champion", previous)
    pull(store, "champion", None)
    store.delete_alias("previous")
    suffix = f"; version {current} is marked as rolled back" if current != previous else ""
    return f"version {previous} is the champion again{suffix}"


def pull(store: Store, alias_or_version: str, to: Path | None) -> tuple[str, Path]:
    """Download model and index of a version: the champion into var/champion, or any version into a new or empty folder `to`.

    Return the version's number and the folder. Raises `UserError` for an unknown version, or for one other than the champion
    without `to`.
    """
    aliases = store.read_aliases()
    number = alias_or_version if alias_or_version.isdigit() else aliases.get(alias_or_version)
    if number is None:
        found = (
            ", ".join(f"{alias} = {version}" for alias, version in aliases.items())
            or "nothing is published or promoted yet"
        )
        do = (
            "see `python -m pipeline.registry list`"
            if aliases
            else "run `make run`: it makes a version and promotes it"
        )
        raise UserError(f"pull: no version is {alias_or_version}", found, do)
    version = find_version(store, number)
    alias = next((alias for alias in ALIASES if aliases.get(alias) == number), "")
    about = {"name": NAME, "version": number, "alias": alias}
    about |= {name: version.tags[tag] for name, tag in STATED.items() if tag in version.tags}

    def fetch(folder: Path) -> None:
        store.fetch(version, folder)

    if to is not None:
        return number, champion.copy_to(to, about, fetch)
    if alias != "champion":
        raise UserError(f"pull: version {number} is not the champion", f"alias: {alias or 'none'}", "give --to FOLDER")
    folder = _download(store, version)
    return number, champion.install(store.root, folder.name, about, fetch)


def _download(store: Store, version: Version) -> Path:
    """Return the folder below var/versions with the files of a version: checked if it was downloaded before, else downloaded.

    It is named by the digest of the files that the version states, so that what an earlier release pulled is downloaded again.
    """
    digest = version.tags.get(DIGEST, "")
    folder = store.root / champion.VERSIONS / f"v{version.number}-{digest[:12]}"
    if folder.exists():
        store.check(version, folder)
    else:
        champion.fetch_atomically(folder, lambda partial: store.fetch(version, partial))
    return folder

"""Judging, promoting, rolling back and pulling over a store in memory, also if interrupted at every point."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from pipeline.frame.errors import UserError
from pipeline.registry.paired.differences import ItemScores
from pipeline.registry.params import Registry
from pipeline.registry.promotion import Version, judge_version, promote, pull, rollback

POLICY = Registry(
    goals=["bpb"], false_promotion=0.05, false_refusal=0.1, when_equal="keep", noise=None, max_skill_drop={}
)


class CutError(Exception):
    """A simulated power failure."""


class MemoryStore:
    """A registry in memory, whose writes fail from the `cut`-th on."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.alias: dict[str, str] = {}
        self.bpb: dict[str, float] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self.cut = 10**9
        self.writes = 0

    def publish(self, bpb: float) -> str:
        number = str(len(self.bpb) + 1)
        self.bpb[number], self.tags[number] = bpb, {"fingerprint": f"{int(number):064x}"}
        self.alias["candidate"] = number
        return number

    def write(self) -> None:
        self.writes += 1
        if self.writes > self.cut:
            raise CutError

    def read_aliases(self) -> dict[str, str]:
        return dict(self.alias)

    def list_versions(self) -> list[Version]:
        when = datetime(2026, 1, 1, tzinfo=UTC)
        return [Version(number, "run", dict(self.tags[number]), when) for number in reversed(self.bpb)]

    def set_tag(self, number: str, key: str, value: str) -> None:
        self.write()
        self.tags[number][key] = value

    def set_alias(self, alias: str, number: str) -> None:
        self.write()
        self.alias[alias] = number

    def delete_alias(self, alias: str) -> None:
        self.write()
        self.alias.pop(alias, None)

    def read_metrics(self, version: Version) -> dict[str, float]:
        return {"bpb": self.bpb[version.number]}

    def read_items(self, version: Version) -> dict[str, ItemScores]:
        sizes = np.arange(100.0, 200.0)
        ids = sizes.astype(str)
        return {"bpb": ItemScores(ids, ids, sizes * self.bpb[version.number], sizes, is_lower_better=True)}

    def fetch(self, version: Version, folder: Path) -> None:
        self.write()
        (folder / "weights").write_text(version.number)
        self.write()

    def check(self, version: Version, folder: Path) -> None:
        if (folder / "weights").read_text() != version.number:
            raise UserError("weights was changed", "other weights", "remove the folder")


@pytest.fixture
def store(tmp_path: Path) -> MemoryStore:
    (tmp_path / "var").mkdir()
    return MemoryStore(tmp_path)


def read_version_in_use(store: MemoryStore) -> str:
    """Return the version in var/champion, after checking that it is complete."""
    folder = store.root / "var/champion"
    number = (folder / "weights").read_text()
    about = json.loads((folder / "version.json").read_text())
    made_by = store.tags[number]["fingerprint"]
    assert about == {"name": "minigpt", "version": number, "alias": "champion", "fingerprint": made_by}
    return number


def advance(store: MemoryStore, bpb: float) -> bool:
    """Publish, judge, and promote if the gate passes; return whether it did."""
    number = store.publish(bpb)
    _, verdict = judge_version(store, POLICY, number)
    if verdict.is_passed:
        promote(store, number, "")
    return verdict.is_passed


def test_the_first_becomes_champion_and_a_better_one_follows(store: MemoryStore) -> None:
    assert advance(store, 1.5)
    assert (store.alias, read_version_in_use(store)) == ({"champion": "1"}, "1")
    assert advance(store, 1.4)
    assert (store.alias, read_version_in_use(store)) == ({"champion": "2", "previous": "1"}, "2")


def test_a_worse_one_stays_the_candidate_with_the_reason_in_a_tag(store: MemoryStore) -> None:
    advance(store, 1.5)
    assert not advance(store, 1.6)
    assert store.alias == {"champion": "1", "candidate": "2"}
    assert store.tags["2"]["gate"] == "refused"
    assert "bpb" in store.tags["2"]["gate_reason"]
    with pytest.raises(UserError, match="the gate refused it"):
        promote(store, None, "")
    assert read_version_in_use(store) == "1"


def test_an_equal_one_stays_the_candidate(store: MemoryStore) -> None:
    advance(store, 1.5)
    assert not advance(store, 1.5)
    assert store.alias == {"champion": "1", "candidate": "2"}
    assert (store.tags["2"]["gate"], store.tags["2"]["gate_outcome"]) == ("refused", "equal")
    with pytest.raises(UserError, match="the gate refused it: equal"):
        promote(store, None, "")


def test_force_promotes_any_version_and_is_recorded(store: MemoryStore) -> None:
    advance(store, 1.5)
    advance(store, 1.6)
    promote(store, "2", "a new test set")
    assert (read_version_in_use(store), store.tags["2"]["forced_reason"]) == ("2", "a new test set")


def test_only_a_version_that_passed_against_the_present_champion_is_promoted(store: MemoryStore) -> None:
    store.publish(1.5)
    with pytest.raises(UserError, match="not been through the gate"):
        promote(store, "1", "")
    judge_version(store, POLICY, "1")
    store.publish(1.4)
    judge_version(store, POLICY, "2")
    promote(store, "2", "")
    with pytest.raises(UserError, match="the champion is 2 by now"):
        promote(store, "1", "")


def test_the_champion_itself_passes_and_is_promoted_again_without_change(store: MemoryStore) -> None:
    advance(store, 1.5)
    before = (store.read_aliases(), json.dumps(store.tags))
    assert judge_version(store, POLICY, None)[1].is_passed
    assert promote(store, None, "") == ("1", "version 1 is the champion already")
    assert (store.read_aliases(), json.dumps(store.tags)) == before


def test_rollback_works_once_and_the_gate_refuses_the_version_afterwards(store: MemoryStore) -> None:
    with pytest.raises(UserError, match="no previous champion"):
        rollback(store)
    advance(store, 1.5)
    advance(store, 1.4)
    rollback(store)
    assert (store.alias, read_version_in_use(store)) == ({"champion": "1"}, "1")
    with pytest.raises(UserError, match="no previous champion"):
        rollback(store)
    _, verdict = judge_version(store, POLICY, "2")
    assert not verdict.is_passed
    assert "rolled back" in verdict.reason


def test_pull_before_the_first_run_names_the_command_that_makes_a_version(store: MemoryStore) -> None:
    with pytest.raises(UserError, match="no version is champion") as caught:
        pull(store, "champion", None)
    assert "make run" in caught.value.do


def test_pull_into_a_given_folder(store: MemoryStore, tmp_path: Path) -> None:
    advance(store, 1.5)
    advance(store, 1.6)
    number, folder = pull(store, "candidate", tmp_path / "mine")
    assert (number, (folder / "weights").read_text()) == ("2", "2")
    assert json.loads((folder / "version.json").read_text())["alias"] == "candidate"
    with pytest.raises(UserError, match="already in use"):
        pull(store, "1", folder)
    with pytest.raises(UserError, match="is not the champion"):
        pull(store, "2", None)
    with pytest.raises(UserError, match="no version is previous"):
        pull(store, "previous", None)
    with pytest.raises(UserError, match="version 7: not in the registry"):
        pull(store, "7", None)


def test_a_champion_in_the_previous_layout_is_downloaded_again(store: MemoryStore) -> None:
    """Its folder var/versions/N-FINGERPRINT does not count as a downloaded version."""
    advance(store, 1.5)
    old = store.root / "var/versions" / f"1-{store.tags['1']['fingerprint'][:12]}"
    old.mkdir()
    link = store.root / "var/champion"
    link.unlink()
    link.symlink_to(Path("versions") / old.name)
    pull(store, "champion", None)
    assert read_version_in_use(store) == "1"


def test_an_empty_registry_is_an_error(store: MemoryStore) -> None:
    for command in (lambda: judge_version(store, POLICY, None), lambda: promote(store, None, "")):
        with pytest.raises(UserError, match="an empty registry"):
            command()


@pytest.mark.parametrize("cut", range(12))
def test_an_interrupted_command_that_is_repeated_has_the_result_of_an_uninterrupted_one(
    tmp_path: Path, cut: int
) -> None:
    """At every moment there is a champion, and var/champion is complete."""

    def run_until(name: str, act: Callable[[MemoryStore], object], cut: int) -> tuple[object, ...]:
        store = MemoryStore(tmp_path / name)
        (store.root / "var").mkdir(parents=True)
        advance(store, 1.5)
        advance(store, 1.4)
        store.publish(1.3)
        judge_version(store, POLICY, "3")
        store.writes, store.cut = 0, cut
        try:
            act(store)
        except CutError:
            assert store.alias["champion"]
            read_version_in_use(store)
            store.cut = 10**9
            act(store)
        store.tags["2"].pop("rolled_back", None)  # holds a time
        return store.alias, store.tags, read_version_in_use(store)

    for name, act in (("promote", lambda store: promote(store, None, "")), ("rollback", rollback)):
        assert run_until(f"{name}-cut", act, cut) == run_until(f"{name}-whole", act, 10**9)

"""Policies follow their files: valid changes count, invalid ones are refused and told, nothing in between is ever seen."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.policy import policy_store
from service.policy.policy_files import DEFAULTS
from service.policy.policy_store import PolicyChange, PolicyStore
from service.service_error import ServiceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(DEFAULTS, tmp_path / "policies")
    return tmp_path / "policies"


def make_cedar(condition: str) -> str:
    return '@id("deep") permit(principal, action, resource) when { ' + condition + " };"


# 13 GB when it is written out
BOMB = "say:\n  default:\n  - &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"  - &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(9)
)


def set_retention(folder: Path, days: int) -> None:
    """Replace content.yaml as an editor or Git does: by renaming."""
    text = (DEFAULTS / "content.yaml").read_text().replace("retention_days: 30", f"retention_days: {days}")
    assert f"retention_days: {days}" in text
    (folder / ".new").write_text(text)
    (folder / ".new").replace(folder / "content.yaml")


def get_days(store: PolicyStore, tenant: str = "acme") -> float:
    store.refresh()
    return store.get(tenant).rules.storage.retention_days


def test_a_change_counts_from_the_next_look_on(folder: Path) -> None:
    times = [0.0]
    store = PolicyStore(folder, poll_seconds=1.0, clock=lambda: times[0])
    before = store.get("acme").hash
    set_retention(folder, 7)
    times[0] = 0.9
    assert store.get("acme").rules.storage.retention_days == 30
    times[0] = 1.0
    wait_for(lambda: store.get("acme").rules.storage.retention_days == 7)
    assert store.get("acme").hash != before
    set_retention(folder, 30)
    times[0] = 2.0
    wait_for(lambda: store.get("acme").hash == before)  # the hash names the bytes


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("content.yaml", "storage: {messages: some}", "storage.messages"),
        ("content.yaml", "guard: {input: {advise: {block: 0.6}}}", "guard.input.advise: is none of"),
        ("content.yaml", "a: [", "not YAML"),
        ("content.yaml", "- 1", "settings by name"),
        ("content.yaml", "\udcff", "not UTF-8"),
        ("authorization.cedar", "permit(", "not Cedar"),
        ("authorization.cedar", 'permit(principal, action == Action::"fly", resource);', "schema"),
        ("authorization.cedar", "permit(principal, action, resource);", "no @id"),
        ("authorization.cedar", '@id("a") permit(principal, action, resource) when { context.tool == "x" };', "schema"),
        (
            "authorization.cedar",
            '@id("a") forbid(principal, action, resource);@id("a") permit(principal, action, resource);',
            "twice",
        ),
        ("authorization.cedar", '@id("a") permit(principal == ?principal, action, resource);', "template"),
        ("acme/content.yaml", "storage: {messages: some}", "storage.messages"),
        ("acme/authorization.cedar", '@id("users-answer") permit(principal, action, resource);', "twice"),
        ("acme/notes.txt", "hello", "notes.txt"),
        ("Acme Inc/content.yaml", "", "tenant"),
        ("extra.yaml", "", "extra.yaml"),
        ("acme/authorization.cedar", make_cedar("(" * 20_000 + "true" + ")" * 20_000), "nested too deeply"),
        ("acme/authorization.cedar", make_cedar("[" * 2_000 + "]" * 2_000 + " == [1]"), "nested too deeply"),
        ("acme/authorization.cedar", make_cedar("if true then true else " * 9_000 + "true"), "nested too deeply"),
        ("acme/authorization.cedar", make_cedar(" && ".join(["true"] * 150)), "too deep"),
        ("acme/authorization.cedar", make_cedar(" || ".join(["true"] * 3_000)), "nested too deeply"),
        ("acme/content.yaml", BOMB, "alias"),
        ("acme/content.yaml", "say: &say {default: *say}", "alias"),
    ],
)
def test_an_invalid_change_is_refused_and_told_and_taken_back(folder: Path, name: str, text: str, message: str) -> None:
    store = PolicyStore(folder)
    changes: list[PolicyChange] = []
    store.listeners.append(changes.append)
    before = store.get("acme")
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    old = path.read_bytes() if path.exists() else None
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for _ in range(3):
        store.refresh()
        assert store.get("acme") is before
    [problem] = store.list_problems()
    assert message in problem
    assert len(problem) < 500
    assert [(change.after, change.problem) for change in changes] == [("", problem)]  # told once
    path.unlink() if old is None else path.write_bytes(old)
    if path.parent != folder:
        path.parent.rmdir()
    store.refresh()
    assert store.get("acme").hash == before.hash
    assert store.list_problems() == []


def test_brackets_in_texts_and_comments_are_no_nesting(folder: Path) -> None:
    text = (
        make_cedar('principal.name != "' + "(" * 200 + r"\"" + "(" * 200 + '" && true')
        + "\n// "
        + "[" * 200
        + '\n// "\n'
    )
    (folder / "acme").mkdir()
    (folder / "acme" / "authorization.cedar").write_text(text)
    (folder / "acme" / "content.yaml").write_text('say: {default: "no * here: *star* & co"}')
    store = PolicyStore(folder)
    assert "deep" in store.get("acme").cedar
    assert store.get("acme").rules.say["default"] == "no * here: *star* & co"


def test_a_link_to_itself_is_refused_like_any_other_name(folder: Path) -> None:
    store = PolicyStore(folder)
    before = store.get("acme")
    (folder / "acme").symlink_to("acme")
    store.refresh()
    assert "acme can't be read" in store.list_problems()[0]
    assert store.get("acme") is before
    (folder / "acme").unlink()
    store.refresh()
    assert store.list_problems() == []


def test_a_change_counts_for_the_first_request_after_it(folder: Path) -> None:
    store = PolicyStore(folder, poll_seconds=0.01, clock=lambda: 0.0)  # by this clock no request ever looks
    end = store.follow()
    try:
        set_retention(folder, 7)
        wait_for(lambda: store.list_policies()[0].rules.storage.retention_days == 7)
    finally:
        end()
    set_retention(folder, 8)
    time.sleep(0.1)
    assert store.list_policies()[0].rules.storage.retention_days == 7


def test_a_missing_folder_is_refused_too(folder: Path) -> None:
    store = PolicyStore(folder)
    shutil.rmtree(folder)
    assert get_days(store) == 30
    assert "can't be read" in store.list_problems()[0]


def test_what_is_invalid_at_the_start_stops_the_start_or_the_tenant(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "acme").mkdir()
    (folder / "acme" / "content.yaml").write_text("limits: 3")
    store = PolicyStore(folder)
    with pytest.raises(ServiceError, match="invalid") as caught:
        store.get("acme")
    assert caught.value.status == 503
    assert get_days(store, "globex") == 30
    assert "acme" in store.list_problems()[0]
    assert store.list_problems("acme") == store.list_problems()
    assert store.list_problems("globex") == []  # it is none of their business
    (folder / "acme" / "content.yaml").write_text("limits: {concurrent: 3}")
    store.refresh()
    assert store.get("acme").rules.limits.concurrent == 3
    assert store.list_problems() == []
    (folder / "authorization.cedar").unlink()
    with pytest.raises(ValueError, match=r"authorization\.cedar"):
        PolicyStore(folder)


def test_tenants_come_change_and_go(folder: Path) -> None:
    store = PolicyStore(folder)
    changes: list[PolicyChange] = []
    store.listeners.append(changes.append)
    shared = store.get("acme").hash
    (folder / "acme").mkdir()
    (folder / "acme" / "content.yaml").write_text("storage: {retention_days: 3, messages: 'off'}")
    assert (get_days(store), get_days(store, "globex")) == (3, 30)
    shutil.rmtree(folder / "acme")
    assert get_days(store) == 30
    assert [(change.tenant, change.before == shared, change.after == shared) for change in changes] == [
        ("acme", True, False),
        ("acme", False, True),
    ]


def test_files_may_be_links_as_kubernetes_mounts_them(folder: Path) -> None:
    version = folder / "..2026"
    version.mkdir()
    for name in ("authorization.cedar", "content.yaml"):
        (folder / name).rename(version / name)
        (folder / "..data").unlink(missing_ok=True)
        (folder / "..data").symlink_to("..2026")
        (folder / name).symlink_to(f"..data/{name}")
    assert get_days(PolicyStore(folder)) == 30


def test_readers_see_whole_policies_only_while_files_change(folder: Path) -> None:
    store = PolicyStore(folder, poll_seconds=0)
    seen: set[tuple[float, str]] = set()
    is_done = threading.Event()

    def read() -> None:
        while not is_done.is_set():
            policy = store.get("acme")
            seen.add((policy.rules.storage.retention_days, policy.hash))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for days in (5, 6, 5, 6):
        set_retention(folder, days)
        wait_for(lambda days=days: store.get("acme").rules.storage.retention_days == days)
    is_done.set()
    for reader in readers:
        reader.join()
    assert {days for days, _ in seen} <= {30, 5, 6}
    assert len(seen) == len({days for days, _ in seen})  # one hash for one content


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_change_of_one_tenant_parses_that_tenant_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        (folder / f"tenant{number}").mkdir()
        (folder / f"tenant{number}" / "content.yaml").write_text(f"limits: {{concurrent: {number + 1}}}")
    store = PolicyStore(folder)
    parsed: list[str] = []
    make = policy_store.make_tenant_policy
    monkeypatch.setattr(
        policy_store, "make_tenant_policy", lambda tenant, texts: parsed.append(tenant) or make(tenant, texts)
    )
    (folder / "tenant7" / "content.yaml").write_text("limits: {concurrent: 99}")
    store.refresh()
    assert parsed == ["tenant7"]
    assert [store.get(f"tenant{number}").rules.limits.concurrent for number in (6, 7, 8)] == [7, 99, 9]

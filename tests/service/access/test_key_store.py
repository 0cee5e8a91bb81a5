"""Keys on SQLite and PostgreSQL: shown once, stored as a hash, refused at once in every process when revoked."""

from __future__ import annotations

import base64
import string
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.access.key_store import ROLE_SCOPES, SECRET, KeyGrant, KeyStore, hash_secret, make_secret
from service.access.quota import Quota
from service.access.tenant_files import TenantFiles
from service.access.tenant_store import TenantStore
from service.database.database import Database

START = datetime(2026, 11, 30, 12, tzinfo=UTC)


class SettableClock:
    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def keys(database: Database, clock: SettableClock) -> KeyStore:
    return KeyStore(database, clock)


def test_a_secret_is_32_random_bytes_with_a_prefix() -> None:
    secrets = {make_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert all(SECRET.fullmatch(secret) for secret in secrets)
    assert {len(base64.urlsafe_b64decode(secret[3:] + "=")) for secret in secrets} == {32}


def test_a_key_is_found_by_its_secret_alone(keys: KeyStore) -> None:
    grant = KeyGrant("acme", "ann@acme.example", "educator", (), START + timedelta(days=1), Quota(60, 1000, None, 4))
    key, secret = keys.add(grant)
    found = keys.find(secret)
    assert found == key
    assert found is not None
    assert found.grant == replace(grant, scopes=ROLE_SCOPES["educator"])
    caller = found.to_caller()
    assert (caller.tenant, caller.user, caller.role, caller.key_id) == ("acme", "ann@acme.example", "educator", key.id)
    for wrong in (
        secret[:-1],
        secret + "A",
        secret.swapcase(),
        make_secret(),
        "",
        "mg-",
        hash_secret(secret),
        "\ud800",
    ):
        assert keys.find(wrong) is None


def test_a_key_is_not_in_the_database_or_its_files(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    _, secret = KeyStore(database).add(KeyGrant())
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    database.close()
    assert hash_secret(secret).encode() in data
    assert secret.encode() not in data
    assert base64.urlsafe_b64decode(secret[3:] + "=") not in data


def test_expired_and_revoked_keys_are_not_found(keys: KeyStore, clock: SettableClock) -> None:
    key, secret = keys.add(KeyGrant(expires=START + timedelta(seconds=10)))
    other, other_secret = keys.add(KeyGrant())
    clock.time = START + timedelta(seconds=9, microseconds=999_999)
    assert keys.find(secret) == key
    clock.time = START + timedelta(seconds=10)
    assert keys.find(secret) is None
    keys.revoke(other.grant.tenant, other.id)
    assert keys.find(other_secret) is None
    first = keys.revoke(other.grant.tenant, other.id).revoked  # again: nothing changes
    clock.time += timedelta(seconds=5)
    assert keys.revoke(other.grant.tenant, other.id).revoked == first
    assert {each.id: each.get_state(clock()) for each in keys.list_keys()} == {key.id: "expired", other.id: "revoked"}


def test_another_process_sees_a_revocation_at_once(database_url: str) -> None:
    here, there = Database.open(database_url), Database.open(database_url)
    key, secret = KeyStore(here).add(KeyGrant())
    assert KeyStore(there).find(secret) == key
    KeyStore(there).revoke("local", key.id)
    assert KeyStore(here).find(secret) is None
    here.close()
    there.close()


def test_rotation_keeps_rights_and_ends_the_old_key(keys: KeyStore, clock: SettableClock) -> None:
    grant = KeyGrant("acme", "bot", "user", ("chat",), START + timedelta(days=9), Quota(5))
    old, old_secret = keys.add(grant)
    new, new_secret = keys.rotate("acme", old.id, timedelta(hours=1))
    assert new.grant == old.grant
    assert keys.find(old_secret) is not None
    clock.time += timedelta(hours=1)
    assert keys.find(old_secret) is None
    assert keys.find(new_secret) == new
    third, _ = keys.rotate("acme", new.id)
    assert keys.find(new_secret) is None
    with pytest.raises(ValueError, match="only an active key can be rotated"):
        keys.rotate("acme", new.id)
    replaced = {key.id: key.replaced_by for key in keys.list_keys("acme")}
    assert replaced == {old.id: new.id, new.id: third.id, third.id: None}


def test_a_grace_never_prolongs_a_key(keys: KeyStore, clock: SettableClock) -> None:
    old, secret = keys.add(KeyGrant(expires=START + timedelta(minutes=1)))
    keys.rotate("local", old.id, timedelta(days=1))
    clock.time += timedelta(minutes=1)
    assert keys.find(secret) is None


def test_a_rotated_key_in_its_grace_can_not_be_rotated_again(keys: KeyStore) -> None:
    old, _ = keys.add(KeyGrant())
    keys.rotate("local", old.id, timedelta(days=1))
    with pytest.raises(ValueError, match="already rotated to key_"):
        keys.rotate("local", old.id)


def test_the_first_key_closes_the_service_for_ever(database: Database, tmp_path: Path) -> None:
    keys = KeyStore(database)
    assert keys.is_open()
    key, _ = keys.add(KeyGrant("acme"))
    assert not keys.is_open()
    keys.revoke("acme", key.id)
    assert not keys.is_open()
    TenantStore(database, TenantFiles(tmp_path)).remove("acme")
    assert keys.list_keys() == []
    assert not keys.is_open()
    assert not KeyStore(database).is_open()


def test_keys_that_are_made_at_once_are_all_there(database: Database) -> None:
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(KeyStore(database).add(KeyGrant("acme"))[0].id)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == sorted(key.id for key in KeyStore(database).list_keys())
    assert len(made) == 8


@pytest.mark.parametrize(
    ("grant", "message"),
    [
        (KeyGrant("../etc"), "tenant: not a name"),
        (KeyGrant("ACME"), "tenant: not a name"),
        (KeyGrant("a" * 64), "tenant: not a name"),
        (KeyGrant(user=""), "user: must be 1 to 255"),
        (KeyGrant(user="a" * 256), "user: must be 1 to 255"),
        (KeyGrant(user="a\nb"), "user: must be 1 to 255"),
        (KeyGrant(user="a\u202eb"), "user: must be 1 to 255"),
        (KeyGrant(user=" ann"), "user: must be 1 to 255"),
        (KeyGrant(user="app:ann"), "user: must have no ':'"),  # the person whom a request of `app` names as its user
        (KeyGrant(role="root"), "role: must be one of user, educator, operator, admin"),  # type: ignore[arg-type]
        (KeyGrant(scopes=("chat", "everything")), "scopes: must be of"),
        (KeyGrant(expires=START), "expires: must be in the future"),
    ],
)
def test_wrong_grants_are_refused_by_name(keys: KeyStore, grant: KeyGrant, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        keys.add(grant)
    assert keys.list_keys() == []
    assert keys.is_open()


@pytest.mark.parametrize("values", [{"requests": 1}, {"concurrent": -1}, {"concurrent": True}, {"concurrent": 1.5}])
def test_wrong_limits_are_refused_by_name(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"limits\.\w+: "):
        Quota.from_json(values)


def test_keys_of_others_can_not_be_named(keys: KeyStore) -> None:
    key, secret = keys.add(KeyGrant("acme"))
    for action in (keys.revoke, keys.rotate):
        with pytest.raises(ValueError, match="there is no such key"):
            action("other", key.id)
    assert keys.find(secret) == key


@given(st.text(string.printable, max_size=80))
def test_any_text_is_a_key_that_is_not_found(text: str) -> None:
    assert len(hash_secret(text)) == 64
    assert SECRET.fullmatch(text) is None or len(text) == 46

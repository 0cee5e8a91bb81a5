"""Who is let in: by a valid key; without keys only this machine's own programs and page."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from service.access.authentication import Authenticator
from service.access.caller import Caller
from service.access.failed_attempts import MAX_ADDRESSES, FailedAttempts
from service.access.key_store import KeyGrant, KeyStore, make_secret
from service.access.local_access import check_listening, check_local_request, is_loopback
from service.access.quota import Quota
from service.api.http.error_responses import install_errors
from service.database.database import Database
from service.service_error import ServiceError

LOCAL = {"host": "127.0.0.1:8000"}


@pytest.fixture
def access(database: Database) -> Iterator[Authenticator]:
    access = Authenticator(database)
    yield access
    access.close()


@pytest.fixture
def file_access(tmp_path: Path) -> Iterator[Authenticator]:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    access = Authenticator(database)
    yield access
    access.close()
    database.close()


def bearer(secret: str) -> dict[str, str]:
    return {"host": "api.example", "authorization": f"Bearer {secret}"}


def test_a_key_names_its_caller_and_its_limits(access: Authenticator) -> None:
    key, secret = access.keys.add(KeyGrant("acme", "ann", "operator", ("operate",), None, Quota(7)))
    caller = access.authenticate(bearer(secret), "203.0.113.9")
    assert caller == Caller("acme", "ann", key.id, "operator", frozenset({"operate"}))
    assert access.get_quota(caller) == Quota(7)
    assert access.authenticate({"authorization": f"bearer   {secret} "}, "203.0.113.9") == caller


def test_every_wrong_key_gets_the_same_answer(access: Authenticator) -> None:
    revoked, revoked_secret = access.keys.add(KeyGrant("acme"))
    access.keys.revoke("acme", revoked.id)
    answers = set()
    for secret in (revoked_secret, make_secret(), "sk-something", "mg-", "\x00", "mg-" + "é" * 43, "x" * 100_000):
        with pytest.raises(ServiceError) as error:
            access.authenticate(bearer(secret), "203.0.113.9")
        answers.add((error.value.status, error.value.code, error.value.message))
        assert error.value.headers == {"WWW-Authenticate": "Bearer"}
        assert error.value.to_json()["error"]["type"] == "authentication_error"
    assert len(answers) == 1
    assert answers.pop()[:2] == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": ""}, {"authorization": "Bearer"}, {"authorization": "Basic YTpi"}, {"x-key": "a"}]
)
def test_no_key_is_a_401_of_its_own(file_access: Authenticator, headers: dict[str, str]) -> None:
    file_access.keys.add(KeyGrant())
    with pytest.raises(ServiceError, match="a valid key is needed") as error:
        file_access.authenticate(headers | LOCAL, "127.0.0.1")
    assert (error.value.status, error.value.code) == (401, "missing_api_key")


def test_a_removed_or_revoked_key_does_not_open_the_service(file_access: Authenticator) -> None:
    assert file_access.authenticate(LOCAL, "127.0.0.1") == Caller()
    key, secret = file_access.keys.add(KeyGrant())
    file_access.keys.revoke("local", key.id)
    for headers in (LOCAL, LOCAL | {"authorization": f"Bearer {secret}"}):
        with pytest.raises(ServiceError) as error:
            file_access.authenticate(headers, "127.0.0.1")
        assert error.value.status == 401


def test_the_last_use_is_recorded(access: Authenticator) -> None:
    key, secret = access.keys.add(KeyGrant())
    assert key.used is None
    for _ in range(3):
        access.authenticate(bearer(secret), "203.0.113.9")
    access.close()
    [stored] = access.keys.list_keys()
    assert stored.used is not None
    assert stored.used >= key.created


def test_a_failing_database_lets_nobody_in(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    access = Authenticator(database)
    _, secret = access.keys.add(KeyGrant())
    with database.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE keys RENAME TO gone")
    with pytest.raises(Exception, match="no such table"):
        access.authenticate(bearer(secret), "127.0.0.1")
    access.close()
    database.close()


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.8.9.10", "::1", "[::1]", "app.localhost", "LOCALHOST."]
)
def test_names_of_loopback(host: str) -> None:
    assert is_loopback(host)
    check_listening(host, is_open=True)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com", "127.0.0.1.nip.io", "", "2130706433"]
)
def test_without_keys_no_other_address_is_listened_on(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ValueError, match=r"listens on loopback only.*make a key first"):
        check_listening(host, is_open=True)
    check_listening(host, is_open=False)
    with pytest.raises(ValueError, match="keys add --role admin --state var/other"):
        check_listening(host, True, "var/other")


@pytest.mark.parametrize(
    ("headers", "address", "status"),
    [
        (LOCAL, "127.0.0.1", 0),
        ({"host": "localhost"}, "::1", 0),
        ({"host": "[::1]:8000"}, "::1", 0),
        ({"host": "[::1]:8000"}, "::ffff:127.0.0.1", 0),
        (LOCAL | {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, "127.0.0.1", 0),
        (LOCAL, "192.168.1.5", 401),
        (LOCAL, "", 401),
        (LOCAL | {"x-forwarded-for": "127.0.0.1"}, "127.0.0.1", 401),
        (LOCAL | {"forwarded": "for=127.0.0.1"}, "127.0.0.1", 401),
        (LOCAL | {"x-forwarded-proto": "https"}, "127.0.0.1", 401),
        (LOCAL | {"cf-connecting-ip": "203.0.113.9"}, "127.0.0.1", 401),
        ({}, "127.0.0.1", 403),
        ({"host": "evil.example"}, "127.0.0.1", 403),  # DNS rebinding
        ({"host": "evil.example:8000"}, "127.0.0.1", 403),
        ({"host": "127.0.0.1.evil.example"}, "127.0.0.1", 403),
        ({"host": "127.0.0.1@evil.example"}, "127.0.0.1", 403),
        ({"host": "[::1"}, "127.0.0.1", 403),
        (LOCAL | {"origin": "http://evil.example"}, "127.0.0.1", 403),  # another site's page
        (LOCAL | {"origin": "http://127.0.0.1:9000"}, "127.0.0.1", 403),  # another program of this machine
        (LOCAL | {"origin": "null"}, "127.0.0.1", 403),
        (LOCAL | {"origin": ""}, "127.0.0.1", 403),
        (LOCAL | {"origin": "file://127.0.0.1:8000"}, "127.0.0.1", 403),
        (LOCAL | {"sec-fetch-site": "cross-site"}, "127.0.0.1", 403),
        (LOCAL | {"sec-fetch-site": "same-site"}, "127.0.0.1", 403),
    ],
)
def test_without_keys_only_this_machine_and_its_own_page(headers: dict[str, str], address: str, status: int) -> None:
    if not status:
        check_local_request(headers, address)
        return
    with pytest.raises(ServiceError) as error:
        check_local_request(headers, address)
    assert error.value.status == status


def test_attempts_are_slowed_but_not_for_known_keys() -> None:
    time = [0.0]
    attempts = FailedAttempts(burst=3, seconds=10.0, clock=lambda: time[0])
    attempts.add_success("known")
    for _ in range(3):
        assert attempts.get_delay("1.2.3.4", "new") == 0
        attempts.add_failure("1.2.3.4")
    assert attempts.get_delay("1.2.3.4", "new") == 10.0
    assert attempts.get_delay("1.2.3.4", "known") == 0
    assert attempts.get_delay("1.2.3.5", "new") == 0
    time[0] = 10.0
    assert attempts.get_delay("1.2.3.4", "new") == 0
    attempts.add_failure("1.2.3.4")
    assert attempts.get_delay("1.2.3.4", "new") == 10.0
    time[0] = 1e6
    assert attempts.get_delay("1.2.3.4", "new") == 0


def test_addresses_of_one_subscriber_count_as_one_and_the_table_is_bounded() -> None:
    attempts = FailedAttempts(burst=2, seconds=10.0, clock=lambda: 0.0)
    for number in range(2):
        attempts.add_failure(f"2001:db8::{number}")
    assert attempts.get_delay("2001:db8::ffff", "new") > 0
    assert attempts.get_delay("2001:db8:0:1::1", "new") == 0
    for number in range(MAX_ADDRESSES + 10):
        attempts.add_failure(f"address {number}")
    assert len(attempts._full_at) == MAX_ADDRESSES


def test_whoever_tries_keys_gets_429_and_others_go_on(database: Database) -> None:
    access = Authenticator(database, attempts=FailedAttempts(burst=5, seconds=60.0))
    _, secret = access.keys.add(KeyGrant())
    _, unused = access.keys.add(KeyGrant())
    access.authenticate(bearer(secret), "203.0.113.9")
    statuses = []
    for _ in range(8):
        with pytest.raises(ServiceError) as error:
            access.authenticate(bearer(make_secret()), "203.0.113.9")
        statuses.append(error.value.status)
    assert statuses == [401] * 5 + [429] * 3
    assert error.value.retry_after is not None
    with pytest.raises(ServiceError, match="too many wrong keys"):
        access.authenticate(bearer(unused), "203.0.113.9")
    access.authenticate(bearer(secret), "203.0.113.9")
    access.authenticate(bearer(unused), "203.0.113.10")
    access.close()


@pytest.mark.parametrize(
    ("forwarded", "peer", "expected"),
    [
        ("", "10.0.0.7", "10.0.0.7"),
        ("198.51.100.1", "10.0.0.7", "198.51.100.1"),
        ("6.6.6.6, 198.51.100.1", "10.0.0.7", "198.51.100.1"),  # what the client itself sent is first
        ("198.51.100.1, 10.0.0.8", "10.0.0.7", "198.51.100.1"),
        ("198.51.100.1", "203.0.113.9", "203.0.113.9"),  # not from a trusted proxy
        ("198.51.100.1", "", ""),
        ("nonsense", "10.0.0.7", "nonsense"),
        ("198.51.100.1", "::ffff:10.0.0.7", "198.51.100.1"),  # a socket for both kinds of addresses
    ],
)
def test_only_trusted_proxies_name_the_client(database_url: str, forwarded: str, peer: str, expected: str) -> None:
    database = Database.open(database_url)
    access = Authenticator(database, trusted_proxies=["10.0.0.0/8"])
    assert access.get_address(forwarded, peer) == expected
    access.close()
    database.close()


def test_a_proxy_that_is_none_is_refused(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    with pytest.raises(ValueError, match="trusted_proxies: must be addresses or networks"):
        Authenticator(database, trusted_proxies=["caddy"])
    database.close()


def test_no_key_is_in_a_log(access: Authenticator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    _, secret = access.keys.add(KeyGrant())
    wrong = make_secret()
    access.authenticate(bearer(secret), "203.0.113.9")
    with pytest.raises(ServiceError) as error:
        access.authenticate(bearer(wrong), "203.0.113.9")
    assert secret not in caplog.text
    assert wrong not in caplog.text + str(error.value) + str(error.value.to_json())


def test_the_dependency_answers_over_http(access: Authenticator) -> None:
    app = FastAPI()
    install_errors(app)

    @app.get("/who")
    async def tell_who(request: Request) -> str:
        caller = await access.authenticate_request(request)
        return f"{caller.tenant}/{caller.user}"

    _, secret = access.keys.add(KeyGrant("acme", "ann"))
    with TestClient(app) as client:
        assert client.get("/who", headers={"Authorization": f"Bearer {secret}"}).json() == "acme/ann"
        answer = client.get("/who", headers={"Authorization": "Bearer nonsense"})
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json()["error"]["code"] == "invalid_api_key"


def test_every_line_of_forwarded_addresses_is_read(tmp_path: Path) -> None:
    """HAProxy adds a line behind the one that the client has sent."""
    database = Database.open(f"sqlite:///{tmp_path / 'a.sqlite'}")
    access = Authenticator(database, attempts=FailedAttempts(burst=1, seconds=60.0), trusted_proxies=["10.0.0.7"])
    access.keys.add(KeyGrant())
    app = FastAPI()
    install_errors(app)

    @app.get("/who")
    async def tell_who(request: Request) -> str:
        return (await access.authenticate_request(request)).user

    with TestClient(app, client=("10.0.0.7", 1)) as client:
        statuses = [
            client.get(
                "/who",
                headers=[
                    ("X-Forwarded-For", f"198.51.100.{number}"),
                    ("X-Forwarded-For", "203.0.113.9"),
                    ("Authorization", "Bearer wrong"),
                ],
            ).status_code
            for number in range(3)
        ]
    assert statuses == [401, 429, 429]
    access.close()
    database.close()


def test_threads_authenticate_at_once(access: Authenticator) -> None:
    secrets = {access.keys.add(KeyGrant("acme", f"user{number}"))[1]: f"user{number}" for number in range(8)}
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            users = pool.map(lambda secret: access.authenticate(bearer(secret), "203.0.113.9").user, secrets)
            assert list(users) == list(secrets.values())


def test_both_stores_of_keys_are_one(database: Database) -> None:
    """A command in another process makes the key that this process then knows."""
    access = Authenticator(database)
    assert access.is_open()
    _, secret = KeyStore(database).add(KeyGrant("acme"))
    assert not access.is_open()
    assert access.authenticate(bearer(secret), "203.0.113.9").tenant == "acme"
    access.close()

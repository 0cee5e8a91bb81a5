"""Responses are kept for an hour, within bounds, and are found by their own tenant and person only."""

from __future__ import annotations

import pytest

from service.access.caller import Caller
from service.api import response_store
from service.api.response_store import ResponseStore, StoredResponse

ANN, BEN = Caller("a", "ann"), Caller("b", "ben")


def make(id: str, n_bytes: int = 10) -> StoredResponse:
    return StoredResponse({"id": id}, (), (), n_bytes)


def test_nobody_finds_the_response_of_another() -> None:
    store = ResponseStore()
    store.put(ANN, make("r1"))
    assert store.get(ANN, "r1") is not None
    assert [store.get(other, "r1") for other in (BEN, Caller("a", "ben"), Caller("b", "ann"))] == [None] * 3
    assert not store.delete(BEN, "r1")
    assert store.delete(ANN, "r1")
    assert store.n_bytes == 0


def test_an_hour_later_it_is_gone() -> None:
    seconds = 0.0
    store = ResponseStore(lambda: seconds)
    store.put(ANN, make("r1"))
    seconds = response_store.SECONDS - 1
    assert store.get(ANN, "r1") is not None
    seconds += 1
    assert store.get(ANN, "r1") is None
    assert store.n_bytes == 0


def test_the_oldest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_store, "MAX_BYTES", 100)
    store = ResponseStore()
    for number in range(20):
        store.put(ANN, make(f"r{number}", 30))
        assert store.n_bytes <= 100
    assert [number for number in range(20) if store.get(ANN, f"r{number}")] == [17, 18, 19]


def test_a_tenant_does_not_push_out_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_store, "MAX_PER_TENANT", 3)
    store = ResponseStore()
    store.put(BEN, make("mine"))
    for number in range(50):
        store.put(ANN, make(f"r{number}"))
    assert store.get(BEN, "mine") is not None
    assert sum(store.get(ANN, f"r{number}") is not None for number in range(50)) == 3
    store.drop_person("a", "ann")
    assert store.n_bytes == 10


def test_a_removed_tenant_leaves_no_response() -> None:
    store = ResponseStore()
    for caller in (ANN, Caller("a", "ben"), BEN):
        store.put(caller, make("r1"))
    store.drop_person("a")
    assert [store.get(caller, "r1") is not None for caller in (ANN, Caller("a", "ben"), BEN)] == [False, False, True]
    assert store.n_bytes == 10

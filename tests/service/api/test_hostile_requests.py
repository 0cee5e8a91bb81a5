"""Hostile requests get an answer in OpenAI's shape, and the service stays as it was (benchmarks/serving/hostile.py: 10,000)."""

from __future__ import annotations

import logging
import time

import pytest

from benchmarks.serving.hostile import attack, make_requests
from tests.service.api.scripted_service import make_service, run_server


def test_three_hundred_hostile_requests(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR), run_server(make_service()) as server:
        tally = attack(server.url, 300, seed=3)
        assert tally.problems == []
        end = time.monotonic() + 10
        while server.service.answering.n_open and time.monotonic() < end:
            time.sleep(0.01)
        assert server.service.answering.n_open == 0
    assert [record.getMessage() for record in caplog.records] == []
    assert {"200", "400", "404", "405", "413", "415", "none"} <= tally.statuses.keys()


def test_the_same_seed_makes_the_same_requests() -> None:
    assert make_requests(50, 1) == make_requests(50, 1) != make_requests(50, 2)

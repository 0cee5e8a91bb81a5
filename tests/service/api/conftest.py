"""Fixtures of the API: one scripted service behind a real server, for all tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.api.scripted_service import RunningServer, make_service, run_server


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """Return a running server."""
    with run_server(make_service()) as running:
        yield running

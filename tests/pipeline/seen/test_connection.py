"""A server that is down, closed or misnamed is an error in three parts, and no password is ever shown."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.near_index import add, main, open_index
from pipeline.seen.connection import masked
from tests.pipeline.seen.conftest import PARAMS, write_run

pytest.importorskip("redis")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_server_that_is_down_is_named_without_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    assert main(["list", "--index", f"redis://me:secret@127.0.0.1:{port}/0"]) == 1
    said = capsys.readouterr().err
    assert f"redis://***@127.0.0.1:{port}/0" in said
    assert "does not answer" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    "url", ["redis://me:secret@host:port/0", "redis://:secret@[half/0", "unix://:secret@/x?db=secret"]
)
def test_a_broken_url_keeps_its_password(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--index", url]) == 1
    assert "secret" not in capsys.readouterr().err


def test_masking() -> None:
    assert masked("data/seen") == "data/seen"
    assert masked("redis://host:1/2") == "redis://host:1/2"
    assert masked("rediss://me:secret@host:1/2?password=secret") == "rediss://***@host:1/2"
    assert masked("unix://me:secret@/run/s?db=1") == "unix://***@/run/s"


def test_a_password_may_come_from_the_environment(
    redis_client: Any, redis_socket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"unix://{redis_socket}?db=0"
    redis_client.config_set("requirepass", "secret")
    try:
        with pytest.raises(UserError, match="does not answer as it should"):
            open_index(url).runs()
        monkeypatch.setenv("MINIGPT_REDIS_PASSWORD", "secret")
        assert open_index(url).runs() == []
    finally:
        redis_client.execute_command("AUTH", "secret")
        redis_client.config_set("requirepass", "")


def test_one_band_is_too_few_for_a_server(redis_client: Any, redis_socket: Path, tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"n_bands": 1})
    with pytest.raises(UserError, match="n_bands: too few"):
        add(f"unix://{redis_socket}?db=0", "one", write_run(tmp_path / "docs", [("a", "some words")]), params)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(UserError, match=r"\.\[redis\]"):
        open_index("redis://host:1/0")

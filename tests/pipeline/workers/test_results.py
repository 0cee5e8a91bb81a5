"""Map files to files: the same results on every engine, by every route, and nothing is computed twice."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3fs

from pipeline.frame.errors import UserError
from pipeline.workers.results import map_files


def copy_twice(path: Path, result: Path, *extras: Path) -> None:
    """Write the text twice, followed by the texts of the extra files."""
    text = path.read_text()
    if text == "broken":
        result.write_text("half")
        raise UserError("bad file", path.name, "fix it")
    result.write_text(text * 2 + "".join(extra.read_text() for extra in extras))


def copy_and_log(path: Path, result: Path) -> None:
    with (path.parent / "calls.log").open("a") as calls:
        calls.write(f"{path.name}\n")
    copy_twice(path, result)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{number}.txt" for number in range(9)]
    for number, path in enumerate(files):
        path.write_text("broken" if number == 8 else f"text {number // 2}")
    return files


@pytest.mark.parametrize("engine", ["serial", "process"])
def test_results_that_a_stopped_run_finished_are_reused(
    engine: str, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINIGPT_ENGINE", engine)
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    results = tmp_path / "results"
    with pytest.raises(UserError, match="bad file"):
        list(map_files(copy_and_log, paths, results=results, settings="a"))
    assert not list(results.glob("*.partial"))
    paths[8].write_text("fixed")
    (tmp_path / "calls.log").unlink()
    made = list(map_files(copy_and_log, paths[::-1], results=results, settings="a"))
    assert [path.read_text() for path in made] == [path.read_text() * 2 for path in paths[::-1]]
    assert (tmp_path / "calls.log").read_text() == "8.txt\n"
    assert not set(map_files(copy_and_log, paths, results=results, settings="b")) & set(made)


@pytest.mark.parametrize(("name", "value"), [("MINIGPT_ENGINE", "spark"), ("MINIGPT_WORKERS", "many")])
def test_a_wrong_engine_is_an_error_even_if_no_worker_is_needed(
    name: str, value: str, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=name):
        list(map_files(copy_twice, paths[:1], results=tmp_path / "results", settings=""))


def test_results_depend_on_the_extra_files(paths: list[Path], tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.write_text("one")
    first = list(map_files(copy_twice, paths[:2], results=tmp_path / "results", settings="", extras=[extra]))
    extra.write_text("two")
    second = list(map_files(copy_twice, paths[:2], results=tmp_path / "results", settings="", extras=[extra]))
    assert [path.read_text() for path in (*first, *second)] == ["text 0text 0one"] * 2 + ["text 0text 0two"] * 2


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start an S3-compatible server in a process of its own; yield the URL of a folder in a bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    for name, value in (("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b"), ("AWS_ENDPOINT_URL", address)):
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (tmp_path / "s3.log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
        s3fs.S3FileSystem.clear_instance_cache()  # it caches the address of an earlier server
        yield "s3://bucket/run"
        server.kill()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["serial", "dask", "ray"])
def test_workers_without_access_to_our_files_use_an_object_store(
    engine: str, bucket: str, paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.workers.results.N_HERE", 0)
    monkeypatch.setenv("MINIGPT_ENGINE", engine)
    monkeypatch.setenv("MINIGPT_WORKERS", "2")
    monkeypatch.setenv("MINIGPT_SHARE", bucket)
    paths[8].write_text("fixed")
    extra = tmp_path / "extra"
    extra.write_text("!")
    made = list(map_files(copy_twice, paths, results=tmp_path / "results", settings="", extras=[extra]))
    assert [path.read_text() for path in made] == [path.read_text() * 2 + "!" for path in paths]


def test_a_shared_folder_keeps_results_for_the_next_run(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.workers.results.N_HERE", 0)
    monkeypatch.setenv("MINIGPT_ENGINE", "serial")
    monkeypatch.setenv("MINIGPT_SHARE", str(tmp_path / "share"))
    first = [path.read_text() for path in map_files(copy_and_log, paths[:8], results=tmp_path / "one", settings="")]
    calls = sorted((tmp_path / "share" / "inputs").glob("calls.log"))
    second = [path.read_text() for path in map_files(copy_and_log, paths[:8], results=tmp_path / "two", settings="")]
    assert first == second == [path.read_text() * 2 for path in paths[:8]]
    assert calls == []
    assert len(list((tmp_path / "share" / "results").iterdir())) == 4  # equal files share one result

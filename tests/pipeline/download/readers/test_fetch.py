"""Test fetching from a local server that disconnects, stalls, declares wrong lengths, asks to wait and changes files."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from pipeline.download.readers.fetch import Address, RetryPolicy, fetch_all, mask_secrets
from pipeline.download.readers.fetched_file import Fetched, Validators
from pipeline.frame.errors import UserError
from tests.conftest import ROOT
from tests.pipeline.download.readers.web_server import Page, Server, Trouble, run_server

POLICY = RetryPolicy(max_failures=4, backoff_seconds=0.01, max_wait_seconds=0.3, connect_seconds=5.0, stall_seconds=0.5)
DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with run_server() as started:
        yield started


def fetch(server: Server, folder: Path, *paths: str, sha256: str = "", policy: RetryPolicy = POLICY) -> list[Fetched]:
    addresses = [Address(server.url + path, sha256) for path in paths or ("/a.txt",)]
    return fetch_all(addresses, "download.sources.0.files", folder, policy)


def catch_failure(server: Server, folder: Path, *paths: str, sha256: str = "") -> UserError:
    with pytest.raises(UserError) as error:
        fetch(server, folder, *paths, sha256=sha256)
    assert server.url in error.value.what
    return error.value


@pytest.mark.parametrize("sha256", ["", SHA256])
def test_a_file_is_fetched_once(sha256: str, server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, last_modified="Mon, 02 Nov 2026 10:00:00 GMT")
    [file] = fetch(server, tmp_path, sha256=sha256)
    assert file.path.read_bytes() == DATA
    assert file == Fetched(
        file.path, f"{server.url}/a.txt", len(DATA), SHA256, Validators('"1"', "Mon, 02 Nov 2026 10:00:00 GMT")
    )
    assert fetch(server, tmp_path, sha256=sha256) == [file]
    assert server.asked("GET") == [("", 200)]
    assert len(server.asked("HEAD")) == (1 if sha256 else 2)  # with a sha256 no request is needed


def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.pages["/a.txt"] = Page(
        DATA, troubles=[Trouble(cut_after=100_000), Trouble(cut_after=0), Trouble(cut_after=50)]
    )
    [file] = fetch(server, tmp_path)
    assert file.path.read_bytes() == DATA
    starts = [int(each.removeprefix("bytes=").rstrip("-")) for each, status in server.asked() if status == 206]
    assert starts == sorted(starts)
    assert len(starts) == 3
    assert 0 < starts[0] <= 100_000
    assert "fetching [########################] 100% 300k/300k bytes" in capsys.readouterr().out


def test_a_stalled_download_is_resumed(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, troubles=[Trouble(stall_after=200_000)])
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    assert [status for _, status in server.asked()] == [200, 206]


def test_without_range_support_the_download_starts_over(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, has_range=False, troubles=[Trouble(cut_after=100_000)])
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    assert [status for _, status in server.asked()] == [200, 200]


def test_without_a_validator_partial_downloads_are_never_joined(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, etag="", troubles=[Trouble(cut_after=100_000)], then=Page(OTHER, etag=""))
    assert fetch(server, tmp_path)[0].path.read_bytes() == OTHER
    assert server.asked() == [("", 200), ("", 200)]


@pytest.mark.parametrize("has_head", [True, False])
def test_a_file_that_changes_between_attempts_is_fetched_in_one_version(
    has_head: bool, server: Server, tmp_path: Path
) -> None:
    after = Page(OTHER, etag='"2"', has_head=has_head)
    troubles = [Trouble()] * (not has_head) + [Trouble(cut_after=100_000)]
    server.pages["/a.txt"] = Page(DATA, has_head=has_head, troubles=troubles, then=after)
    [file] = fetch(server, tmp_path)
    assert file.path.read_bytes() == OTHER
    assert file.validators.etag == '"2"'


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_servers_are_retried_after_the_requested_time(status: int, server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(
        DATA, troubles=[Trouble(status, {"Retry-After": "0"}), Trouble(status), Trouble(status)]
    )
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    assert [answered for _, answered in server.asked()] == [status, status, status, 200]


def test_retry_after_is_honored_up_to_a_limit(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, troubles=[Trouble(503, {"Retry-After": "86400"})])
    started = time.monotonic()
    fetch(server, tmp_path)
    assert time.monotonic() - started >= POLICY.max_wait_seconds  # far longer than the first back-off of 0.01 s


def test_too_many_failures_stop_and_the_partial_download_is_kept(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, troubles=[Trouble(cut_after=100_000), *[Trouble(500)] * 3])
    error = catch_failure(server, tmp_path)
    assert "500" in error.found
    assert len(server.asked()) == 4  # the cut is the first failure: bytes came before it
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    assert server.asked()[-1][0].startswith("bytes=")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_missing_file_is_not_retried(status: int, server: Server, tmp_path: Path) -> None:
    server.pages["/b.txt"] = Page(DATA)
    server.pages["/a.txt"] = Page(DATA, has_head=False, troubles=[Trouble(status)] * 9)
    assert str(status) in catch_failure(server, tmp_path, "/a.txt", "/b.txt").found
    assert len(server.asked()) == 1  # of a.txt; b.txt was only probed
    assert "/none.txt" in catch_failure(server, tmp_path, "/b.txt", "/none.txt").what


@pytest.mark.parametrize("has_range", [True, False])
def test_a_wrong_declared_length_is_an_error(has_range: bool, server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, extra_length=10, has_range=has_range)
    assert "failures" in catch_failure(server, tmp_path).found
    assert not list(tmp_path.rglob("a.txt"))


def test_a_truncated_file_is_detected_by_its_hash(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, extra_length=-1_000)
    assert SHA256 in catch_failure(server, tmp_path, sha256=SHA256).found


def test_a_file_of_unknown_length_is_fetched(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, has_length=False, has_head=False)
    assert fetch(server, tmp_path, sha256=SHA256)[0].path.read_bytes() == DATA


def test_a_wrong_hash_reports_both_hashes_and_keeps_nothing(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(OTHER)
    found = catch_failure(server, tmp_path, sha256=SHA256).found
    assert SHA256 in found
    assert hashlib.sha256(OTHER).hexdigest() in found
    assert not [path for path in tmp_path.rglob("a.txt*") if path.stat().st_size]


def test_a_partial_download_of_another_version_is_detected_by_the_hash(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(OTHER, etag="", troubles=[Trouble(cut_after=100_000), *[Trouble(404)]])
    catch_failure(server, tmp_path, sha256=SHA256)
    server.pages["/a.txt"] = Page(DATA, etag="")
    assert fetch(server, tmp_path, sha256=SHA256)[0].path.read_bytes() == DATA


def test_a_corrupted_file_in_the_cache_is_fetched_again(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.pages["/a.txt"] = Page(DATA)
    [file] = fetch(server, tmp_path, sha256=SHA256)
    file.path.write_bytes(OTHER)
    assert fetch(server, tmp_path, sha256=SHA256)[0].path.read_bytes() == DATA
    assert "does not match the sha256 of the fetched file" in capsys.readouterr().out


def test_a_new_version_is_fetched_and_the_old_one_kept(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA)
    [old] = fetch(server, tmp_path)
    server.pages["/a.txt"] = Page(OTHER, etag='"2"')
    [new] = fetch(server, tmp_path)
    assert (old.path.read_bytes(), new.path.read_bytes()) == (DATA, OTHER)


def test_redirects_are_followed_on_http_only(server: Server, tmp_path: Path) -> None:
    server.pages["/b.txt"] = Page(DATA)
    server.pages["/a.txt"] = Page(b"", has_head=False, troubles=[Trouble(302, {"Location": "/b.txt"})] * 3)
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    (tmp_path / "secret").write_text("secret")
    for target in (f"file://{tmp_path}/secret", "ftp://127.0.0.1/x"):
        server.pages["/a.txt"] = Page(b"", has_head=False, troubles=[Trouble(301, {"Location": target})] * 9)
        assert "redirect" in catch_failure(server, tmp_path).found
    server.pages["/a.txt"] = Page(b"", has_head=False, troubles=[Trouble(307, {"Location": "/a.txt"})] * 20)
    assert "redirects" in catch_failure(server, tmp_path).found


def test_an_unrequested_content_encoding_is_refused(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, headers={"Content-Encoding": "gzip"})
    assert "Content-Encoding" in catch_failure(server, tmp_path).found
    server.pages["/a.txt.gz"] = Page(DATA, headers={"Content-Encoding": "gzip"})
    assert fetch(server, tmp_path, "/a.txt.gz")[0].path.read_bytes() == DATA  # unchanged


DATE = "Mon, 02 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize("n_mirrors", [2, 3])
def test_mirrors_with_tags_of_their_own_are_one_file(n_mirrors: int, server: Server, tmp_path: Path) -> None:
    tags = [f'"node-{number}"' for number in range(n_mirrors)]
    server.pages["/a.txt"] = Page(DATA, last_modified=DATE, etags=tags)
    [file] = fetch(server, tmp_path)
    assert file.path.read_bytes() == DATA
    for _ in range(n_mirrors):
        assert fetch(server, tmp_path) == [file]
    assert server.asked() == [("", 200)]


def test_a_download_from_mirrors_is_resumed_by_its_date(server: Server, tmp_path: Path) -> None:
    troubles = [Trouble(cut_after=100_000), Trouble(cut_after=150_000), Trouble(cut_after=10)]
    server.pages["/a.txt"] = Page(DATA, last_modified=DATE, etags=['"1"', '"2"'], troubles=troubles)
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    assert [status for _, status in server.asked()] == [200, 206, 206, 206]


@pytest.mark.parametrize("date", [DATE, ""])
def test_mirrors_with_different_files_are_never_joined(date: str, server: Server, tmp_path: Path) -> None:
    after = Page(OTHER[:-1], etag='"2"', last_modified=date)
    server.pages["/a.txt"] = Page(DATA, last_modified=date, troubles=[Trouble(cut_after=100_000)], then=after)
    assert fetch(server, tmp_path)[0].path.read_bytes() == OTHER[:-1]


def test_a_file_with_a_new_tag_in_each_response_is_taken_as_it_comes(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, etags=[f'"{number}"' for number in range(99)])
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    assert len(server.asked()) <= POLICY.max_failures


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 501, 502, 503, 520])
def test_where_head_fails_get_is_tried(status: int, server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, head_status=status)
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    assert [answered for _, answered in server.asked("HEAD")] == [status]


@pytest.mark.parametrize("coding", ["aws-chunked", "UTF-8", "identity", " ", "none", "binary", "x-unknown"])
def test_a_coding_that_is_no_compression_is_ignored(coding: str, server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, headers={"Content-Encoding": coding})
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("coding", "pack"), [("gzip", gzip.compress), ("X-GZIP", gzip.compress), ("zstd", zstandard.compress)]
)
def test_a_compression_that_was_not_requested_is_undone(
    coding: str, pack: Callable[[bytes], bytes], server: Server, tmp_path: Path
) -> None:
    packed = pack(DATA)
    server.pages["/a.txt"] = Page(packed, headers={"Content-Encoding": coding}, troubles=[Trouble(cut_after=100_000)])
    [file] = fetch(server, tmp_path)
    assert (file.path.name, file.path.read_bytes(), file.n_bytes, file.sha256) == ("a.txt", DATA, len(DATA), SHA256)
    assert fetch(server, tmp_path) == [file]
    assert not list(tmp_path.rglob("*.partial")) + list(tmp_path.rglob("*.decoded"))
    for sha256 in (SHA256, hashlib.sha256(packed).hexdigest()):
        assert fetch(server, tmp_path / "declared", sha256=sha256)[0].path.read_bytes() == DATA
    server.pages["/a.txt"].data = packed[:-9]
    server.pages["/a.txt"].etag = '"2"'
    assert "Content-Encoding" in catch_failure(server, tmp_path).found


@pytest.mark.parametrize("path", ["/a.txt.gz", "/a.txt.gz?download=1", "/b.tgz?x=1"])
def test_a_file_with_the_name_of_its_coding_is_kept_unless_it_is_compressed_twice(
    path: str, server: Server, tmp_path: Path
) -> None:
    packed = gzip.compress(DATA)
    server.pages[path.partition("?")[0]] = Page(packed, headers={"Content-Encoding": "gzip"})
    assert fetch(server, tmp_path, path)[0].path.read_bytes() == packed
    server.pages[path.partition("?")[0]] = Page(gzip.compress(packed), etag='"2"', headers={"Content-Encoding": "gzip"})
    assert fetch(server, tmp_path, path)[0].path.read_bytes() == packed


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, br", "compress"])
def test_a_coding_that_cannot_be_undone_is_refused(coding: str, server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, headers={"Content-Encoding": coding})
    assert coding in catch_failure(server, tmp_path).found


def test_a_range_of_another_length_is_not_joined(server: Server, tmp_path: Path) -> None:
    troubles = [Trouble(cut_after=100_000)]
    server.pages["/a.txt"] = Page(DATA, troubles=troubles, total_told=len(DATA) + 1)
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA
    assert [status for _, status in server.asked()] == [200, 206, 200]


def test_a_forbidden_file_with_a_time_to_wait_is_retried(server: Server, tmp_path: Path) -> None:
    server.pages["/a.txt"] = Page(DATA, troubles=[Trouble(403, {"Retry-After": "0"})])
    assert fetch(server, tmp_path)[0].path.read_bytes() == DATA


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    with run_server() as server:
        url = f"{server.url}/a.txt"
    with pytest.raises(UserError, match=r"download\.sources\.0\.files: cannot fetch http://127[^$]+ConnectError"):
        fetch_all([Address(url)], "download.sources.0.files", tmp_path, POLICY)


def test_many_files_are_returned_in_order_and_duplicates_fetched_once(server: Server, tmp_path: Path) -> None:
    for number in range(9):
        server.pages[f"/{number}.txt"] = Page(DATA[number:], troubles=[Trouble(cut_after=1_000 * number)])
    paths = [f"/{number}.txt" for number in (8, 3, 0, 3, 5, 1, 2, 4, 6, 7, 3)]
    files = fetch(server, tmp_path, *paths)
    assert [file.url.removeprefix(server.url) for file in files] == paths
    assert [file.path.read_bytes() for file in files] == [DATA[int(path[1]) :] for path in paths]
    assert sum(status == 200 for _, status in server.asked()) <= 10


FETCH = """
import sys
from pathlib import Path
from pipeline.download.readers.fetch import Address, RetryPolicy, fetch_all
[file] = fetch_all([Address(sys.argv[1])], "s", Path(sys.argv[2]), RetryPolicy(stall_seconds=20.0))
print(file.path.read_bytes() == Path(sys.argv[3]).read_bytes())
"""


@pytest.mark.slow
def test_a_killed_fetch_is_resumed_and_two_processes_share_one_download(server: Server, tmp_path: Path) -> None:
    (tmp_path / "expected").write_bytes(DATA)
    cache = tmp_path / "cache"
    argv = [sys.executable, "-c", FETCH, f"{server.url}/a.txt", str(cache), str(tmp_path / "expected")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    server.pages["/a.txt"] = Page(DATA, troubles=[Trouble(stall_after=150_000)])
    with subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL) as first:
        while not any(path.stat().st_size >= 150_000 for path in cache.rglob("*.partial")):
            time.sleep(0.02)
        first.send_signal(signal.SIGKILL)
    both = [subprocess.Popen(argv, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].splitlines()[-1] for process in both] == ["True", "True"]
    assert server.asked() == [("", 200), ("bytes=150000-", 206)]


def test_a_failure_stops_the_other_files(server: Server, tmp_path: Path) -> None:
    server.pages["/slow.txt"] = Page(DATA, troubles=[Trouble(503)] * 1_000)
    server.pages["/bad.txt"] = Page(b"x", troubles=[Trouble(404)])
    started, before = time.monotonic(), set(threading.enumerate())
    patient = RetryPolicy(max_failures=1_000, backoff_seconds=30.0)
    with pytest.raises(UserError, match=r"/bad\.txt"):
        fetch(server, tmp_path, "/slow.txt", "/bad.txt", policy=patient)
    assert time.monotonic() - started < 20.0
    assert not [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("ThreadPool")]


def test_secrets_are_never_shown_or_written(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    server.pages["/a.txt"] = Page(DATA)
    url = server.url.replace("//", "//user:pa55word@") + "/a.txt?page=2&token=s3cret&X-Amz-Signature=abc&q=" + "z" * 40
    [file] = fetch_all([Address(url)], "s", tmp_path, POLICY)
    assert file.url == f"{server.url}/a.txt?page=2&token=***&X-Amz-Signature=***&q=***"
    assert server.headers[-1]["Authorization"].startswith("Basic ")
    written = "".join(str(path) + path.read_text() for path in tmp_path.rglob("*.json"))
    server.pages.clear()
    with pytest.raises(UserError) as error:
        fetch_all([Address(url)], "s", tmp_path, POLICY)
    shown = written + str(error.value) + caplog.text + "".join(capsys.readouterr())
    for secret in ("pa55word", "s3cret", "abc", "z" * 40):
        assert secret not in shown
    assert json.loads(next(tmp_path.rglob("about.json")).read_text())["url"] == file.url


def test_secrets_in_urls_are_masked() -> None:
    assert mask_secrets("https://a.org/b/c.txt?x=1#part") == "https://a.org/b/c.txt?x=1"
    assert mask_secrets("https://u:p@a.org/b?api_key=1&y=") == "https://a.org/b?api_key=***&y="

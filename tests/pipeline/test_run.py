"""The frame leaves a complete output or none when a stage succeeds, fails, is killed, or fills the disk."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from pipeline.frame.errors import UserError
from pipeline.frame.metrics import Metrics, check_metrics, write_json
from pipeline.frame.timings import read_timings, report_timings
from pipeline.run import make_run_key, run_stage
from tests.conftest import ROOT, new_workspace


def make_stage(run: object) -> ModuleType:
    """Return a module that is named like a stage and has this `run`."""
    module = ModuleType("pipeline.dedupe")
    module.run = run  # type: ignore[attr-defined]
    module.__file__ = __file__
    return module


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    new_workspace(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("input")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_in_frame(run: object, out: Path = Path("data/dedupe")) -> Metrics:
    return run_stage(
        make_stage(run),
        params_path=Path("params.yaml"),
        inputs={"docs": Path("in")},
        out=out,
        metrics_path=Path("data/metrics/dedupe.json"),
    )


def test_a_finished_stage_is_renamed_and_its_metrics_written(workspace: Path) -> None:
    def run(params: object, *, docs: Path, out: Path) -> Metrics:
        assert out.name == "dedupe.partial"
        (out / "result").write_text((docs / "file").read_text())
        return {"docs_in": 3, "docs_out": 1, "dropped_x": 2}

    run_in_frame(run)
    assert (workspace / "data/dedupe/result").read_text() == "input"
    assert json.loads((workspace / "data/metrics/dedupe.json").read_text())["docs_in"] == 3


def test_clock_readings_are_stored_beside_the_metrics_they_belong_to(workspace: Path) -> None:
    timings, metrics = workspace / "var/timings/dedupe.json", workspace / "data/metrics/dedupe.json"

    def run(params: object, *, docs: Path, out: Path) -> Metrics:
        report_timings(tokens_per_second=31_000.0)
        return {"docs_in": 3}

    assert run_in_frame(run) == {"docs_in": 3}
    assert json.loads(metrics.read_text()) == {"docs_in": 3}
    readings = read_timings(timings, metrics)
    assert readings.keys() == {"seconds", "tokens_per_second"}
    assert readings["tokens_per_second"] == 31_000.0
    run_in_frame(lambda params, *, docs, out: {"docs_in": 3})
    assert read_timings(timings, metrics).keys() == {"seconds"}, "no readings of an earlier run"
    metrics.write_text('{"docs_in": 4}')
    assert read_timings(timings, metrics) == {}, "readings of another run are ignored"


def test_a_failed_stage_leaves_the_old_result_and_no_half_written_one(workspace: Path) -> None:
    (workspace / "data/dedupe").mkdir()
    (workspace / "data/dedupe/result").write_text("old")

    def run(params: object, *, docs: Path, out: Path) -> Metrics:
        (out / "result").write_text("half")
        raise UserError("a", "b", "c")

    with pytest.raises(UserError):
        run_in_frame(run)
    assert (workspace / "data/dedupe/result").read_text() == "old"
    assert not list((workspace / "data").glob("*.partial"))


def test_a_full_disk_is_a_user_error(workspace: Path) -> None:
    def run(params: object, *, docs: Path, out: Path) -> Metrics:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match="disk is full"):
        run_in_frame(run)


@pytest.mark.parametrize("out", [".", "..", "in", "in/..", "params.yaml", "in/file"])
def test_an_output_folder_that_would_replace_what_is_needed_is_refused(out: str, workspace: Path) -> None:
    def run(params: object, *, docs: Path, out: Path) -> Metrics:
        raise AssertionError("must not start")

    before = sorted(workspace.rglob("*"))
    with pytest.raises(UserError, match="--out"):
        run_in_frame(run, Path(out))
    assert sorted(workspace.rglob("*")) == before


def test_an_output_folder_that_can_not_be_made_is_a_user_error(workspace: Path) -> None:
    with pytest.raises(UserError, match="can't be made"):
        run_in_frame(lambda params, *, docs, out: {}, Path("in/file/below"))


def test_a_second_run_of_a_stage_is_refused_while_the_first_works(workspace: Path) -> None:
    def second(params: object, *, docs: Path, out: Path) -> Metrics:
        raise AssertionError("never called")

    def run(params: object, *, docs: Path, out: Path) -> Metrics:
        (out / "result").write_text("first")
        with pytest.raises(UserError, match="dedupe: another run is making data/dedupe"):
            run_in_frame(second)
        return {}

    run_in_frame(run)
    assert (workspace / "data/dedupe/result").read_text() == "first"
    run_in_frame(run)  # nothing stays locked


def test_files_of_a_killed_run_are_deleted(workspace: Path) -> None:
    left = workspace / "data/dedupe.partial"
    (left / "folder").mkdir(parents=True)
    (left / "folder" / "half").write_text("x")
    (left / "link").symlink_to(workspace / "in")

    def run(params: object, *, docs: Path, out: Path) -> Metrics:
        assert not list(out.iterdir())
        return {}

    run_in_frame(run)
    assert (workspace / "in" / "file").exists()


def test_scratch_survives_a_failure_and_is_deleted_after_success(workspace: Path) -> None:
    seen: list[Path] = []

    def run(params: object, *, docs: Path, scratch: Path, out: Path) -> Metrics:
        seen.append(scratch)
        if not (scratch / "state").exists():
            (scratch / "state").write_text("half way")
            raise UserError("a", "b", "c")
        return {}

    with pytest.raises(UserError):
        run_in_frame(run)
    assert seen[0].is_dir()
    run_in_frame(run)
    assert seen[0] == seen[1]
    assert not seen[0].exists()


def test_another_input_gives_another_run_key(workspace: Path) -> None:
    module = make_stage(test_another_input_gives_another_run_key)
    first = make_run_key(module, "{}", {"docs": Path("in")})
    assert first == make_run_key(module, "{}", {"docs": Path("in")})
    (workspace / "in" / "file").write_text("other")
    assert make_run_key(module, "{}", {"docs": Path("in")}) != first
    assert make_run_key(module, '{"a":1}', {"docs": Path("in")}) != first


def test_the_key_uses_the_hashes_in_the_manifest_of_token_shards(tmp_path: Path) -> None:
    """Shards are verified when they are read; a new manifest, another size, or a file that it does not name gives another key."""
    module, shards = make_stage(None), {"shards": tmp_path}
    file = {"name": "a.arrow", "sha256": "12"}
    manifest = {"dtype": "uint16", "train": {"files": [file]}}
    write_json(tmp_path / "manifest.json", manifest)
    for name in ("a.arrow", "docs.parquet"):
        (tmp_path / name).write_bytes(b"1234")
    keys = [make_run_key(module, "{}", shards)]
    (tmp_path / "a.arrow").write_bytes(b"1235")
    assert make_run_key(module, "{}", shards) == keys[0]
    (tmp_path / "a.arrow").write_bytes(b"12345")
    keys.append(make_run_key(module, "{}", shards))
    (tmp_path / "docs.parquet").write_bytes(b"1235")
    keys.append(make_run_key(module, "{}", shards))
    file["sha256"] = "34"
    write_json(tmp_path / "manifest.json", manifest)
    keys.append(make_run_key(module, "{}", shards))
    assert len(set(keys)) == 4


def test_counts_that_do_not_reconcile_are_a_bug() -> None:
    check_metrics("filter", {"docs_in": 2, "docs_out": 1, "dropped_a": 1})
    with pytest.raises(AssertionError, match="accounted"):
        check_metrics("filter", {"docs_in": 3, "docs_out": 1, "dropped_a": 1})
    with pytest.raises(AssertionError):
        check_metrics("filter", {"loss": float("nan")})


def test_json_is_complete_or_absent(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert not (tmp_path / "a.json").exists()


PROGRAM = """
import hashlib, subprocess, sys, time
from pathlib import Path
from types import ModuleType
import pipeline.run as s
def run(params, *, docs, out):
    (out / 'half').write_text('x')
    {before}
    print('ready', flush=True)
    {work}
    return {{}}
m = ModuleType('pipeline.dedupe'); m.run = run
s.run_stage(
    m, params_path=Path('params.yaml'), inputs={{'docs': Path('in')}}, out=Path('data/dedupe'), metrics_path=Path('m.json')
)
"""


def stop_stage(work: str, number: int, *, before: str = "pass", **environment: str) -> tuple[float, str]:
    """Stop a real process while it works. Return the seconds that it took, and its errors."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(work=work, before=before)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        time.sleep(0.3)  # until it is in the midst of its work
        started = time.monotonic()
        child.send_signal(number)
        _, errors = child.communicate(timeout=30)
        assert child.returncode != 0
    return time.monotonic() - started, errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_stage_cleans_up(number: int, workspace: Path) -> None:
    seconds, errors = stop_stage("time.sleep(60)", number)
    assert seconds < 10
    assert "killed" not in errors
    assert not (workspace / "data/dedupe").exists()
    assert not list((workspace / "data").glob("*.partial"))


# One holds the interpreter lock, one releases it; both would take hours.
@pytest.mark.parametrize("work", ["sum(range(10**15))", "hashlib.pbkdf2_hmac('sha256', b'', b'', 2 * 10**9)"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_inside_native_code_is_killed_with_its_children(number: int, work: str, workspace: Path) -> None:
    sleep = "p = subprocess.Popen(['sleep', '60'], stderr=subprocess.DEVNULL); Path('pid').write_text(str(p.pid))"
    seconds, errors = stop_stage(work, number, before=sleep, MINIGPT_STOP_SECONDS="0.5")
    assert 0.4 < seconds < 10
    assert f"dedupe: killed 0.5 s after {signal.Signals(number).name}; run it again to resume" in errors
    assert not list((workspace / "data").glob("dedupe*"))
    pid, deadline = int((workspace / "pid").read_text()), time.monotonic() + 5
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:  # init may be slow to collect what it inherits
            assert time.monotonic() < deadline, psutil.Process(pid).status()
            time.sleep(0.05)


def test_a_thread_that_never_ends_does_not_keep_a_stopped_stage(workspace: Path) -> None:
    work = "__import__('threading').Thread(target=time.sleep, args=(100,)).start(); time.sleep(60)"
    seconds, errors = stop_stage(work, signal.SIGTERM, MINIGPT_STOP_SECONDS="0.5")
    assert seconds < 10
    assert "killed 0.5 s after SIGTERM" in errors
    assert not list((workspace / "data").glob("dedupe*"))

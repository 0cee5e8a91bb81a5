"""kill -9 while the database is made, while a version is published: the next command finds everything whole, or cleans up."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.frame.errors import UserError
from pipeline.registry.mlflow_database import ARTIFACTS, DATABASE, prepare_database
from tests.fake_repo import FakeRepo

# Imports MLflow once. Each command runs in a fork, which is killed so many seconds after `watched` exists.
KILLER = """
import os, signal, sys, time
from pathlib import Path
import mlflow, mlflow.store.tracking.sqlalchemy_store, mlflow.pyfunc
from pipeline.registry.__main__ import main

def run(arguments, watched=None, seconds=0.0):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = main(arguments)
        finally:
            sys.stdout.flush()
            os._exit(code)
    if watched is not None:
        while not list(Path("var").glob(watched)) and os.waitpid(pid, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

for watched, seconds in MOMENTS:
    code = run(ARGUMENTS, watched, seconds)
    assert code in (0, -9), code
    print("killed" if code else "finished", watched, seconds, flush=True)
    if code == 0:
        break
    if CHECK:
        assert run(CHECK) == 0
        FORGET()
sys.exit(run(ARGUMENTS))
"""


def kill_and_repeat(
    repo: FakeRepo, arguments: list[str], moments: list[tuple[str, float]], check: list[str], forget: str
) -> str:
    """Run a command once per moment, kill it then, run `check` and execute `forget`; finally let it finish. Return the output."""
    script = KILLER.replace("MOMENTS", repr(moments)).replace("ARGUMENTS", repr(arguments))
    script = script.replace("CHECK", repr(check)).replace("FORGET()", forget)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=repo.root, env=repo.environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_kill_while_the_database_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    repo = FakeRepo(tmp_path)
    moments = [("mlflow.db.partial", seconds) for seconds in (0.0, 0.01, 0.1, 0.3, 0.6)]
    output = kill_and_repeat(repo, ["list"], moments, ["list"], "Path('var/mlflow.db').unlink()")
    assert output.count("killed") >= 3
    assert "no versions yet" in output.splitlines()[-1]
    assert not list((tmp_path / "var").glob("*.partial*"))


@pytest.mark.slow
def test_a_killed_publication_is_cleaned_up_by_the_next_one(tmp_path: Path) -> None:
    repo = FakeRepo(tmp_path)
    repo.repro()
    moments = [("mlartifacts/*", 0.0), ("mlartifacts/models/*", 0.0), ("mlartifacts/*/artifacts/evaluate/*", 0.0)]
    output = kill_and_repeat(
        repo, ["publish"], [*moments, ("mlartifacts/*/artifacts/evaluate/report.html", 0.01)], [], "pass"
    )
    assert output.count("killed") >= 3
    assert "version 1 of minigpt: published" in output
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        runs = database.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        models = database.execute("SELECT model_id FROM logged_models WHERE lifecycle_stage = 'active'").fetchall()
    (run,), (model,) = runs, models
    assert run[1] == "FINISHED"
    folders = {path.name for path in (tmp_path / ARTIFACTS).iterdir()} | {
        path.name for path in (tmp_path / ARTIFACTS / "models").iterdir()
    }
    assert folders == {"models", run[0], model[0]}


def make_database(uri: str, _artifacts: str) -> None:
    """Create what the test needs of MLflow's database."""
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        database.execute("CREATE TABLE experiments (artifact_location TEXT)")
        database.execute("INSERT INTO experiments VALUES ('s3://bucket/minigpt')")


@pytest.mark.parametrize(
    "tables", [[], ["CREATE TABLE spans (x)"], ["CREATE TABLE experiments (artifact_location TEXT)"]]
)
def test_a_database_that_was_never_finished_is_made_again(
    tmp_path: Path, tables: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """As an earlier release left it after a kill."""
    (tmp_path / "var").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        for statement in tables:
            database.execute(statement)
    (tmp_path / DATABASE).touch()
    assert prepare_database(tmp_path, make_database) == f"sqlite:///{tmp_path / DATABASE}"
    assert "never finished" in capsys.readouterr().err
    assert prepare_database(tmp_path, lambda *_: pytest.fail("made twice"))
    assert capsys.readouterr().err == ""
    assert (tmp_path / "var/mlflow.db.unfinished").exists()


def test_a_file_that_is_no_database_and_a_path_that_mlflow_cannot_use_are_user_errors(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    (tmp_path / DATABASE).write_bytes(b"no database" * 100)
    with pytest.raises(UserError, match="not a database"):
        prepare_database(tmp_path, make_database)
    for name in ("a%20b", "why?"):
        with pytest.raises(UserError, match="no place for the registry"):
            prepare_database(tmp_path / name, make_database)


LOCATIONS = {
    "experiments.artifact_location": [
        "file:///old/my%20place/var/mlartifacts",
        "/old/my place/mlruns/0",
        "s3://bucket/x",
    ],
    "runs.artifact_uri": [
        "file:///old/my%20place/var/mlartifacts/1/artifacts",
        "file:///old/my%20placebo/var/mlartifacts",
    ],
    "model_versions.source": ["models:/m-1", "file:///old/my%20place/var/mlartifacts/models/m-1"],
}


def test_only_the_locations_of_this_workspace_are_moved(tmp_path: Path) -> None:
    """A bucket, a folder with a longer name and what is not stored by MLflow's schema of today stay as they are."""
    root = tmp_path / "new place"
    (root / "var").mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(root / DATABASE)) as database, database:
        for key, values in LOCATIONS.items():
            table, column = key.split(".")
            more = ", storage_location TEXT" if table == "model_versions" else ""
            database.execute(f"CREATE TABLE {table} ({column} TEXT{more})")
            database.executemany(f"INSERT INTO {table} ({column}) VALUES (?)", [(value,) for value in values])
    for _ in range(2):  # the second time there is nothing to do
        prepare_database(root, make_database)
        with contextlib.closing(sqlite3.connect(root / DATABASE)) as database, database:
            moved = {
                key: [row[0] for row in database.execute(f"SELECT {key} FROM {key.split('.')[0]}")] for key in LOCATIONS
            }
        old_and_new = (("file:///old/my%20place/", f"{root.as_uri()}/"), ("/old/my place/", f"{root}/"))
        for key, values in LOCATIONS.items():
            for old, new in old_and_new:
                values = [value.replace(old, new) if value.startswith(old) else value for value in values]
            assert moved[key] == values


def test_a_workspace_moved_into_a_folder_of_its_former_parent_is_moved_once(tmp_path: Path) -> None:
    root = tmp_path / "a/b"
    (root / "var").mkdir(parents=True)
    locations = [f"file://{tmp_path}/a/var/mlartifacts", f"file://{tmp_path}/a/b/var/mlartifacts"]
    with contextlib.closing(sqlite3.connect(root / DATABASE)) as database, database:
        database.execute("CREATE TABLE experiments (artifact_location TEXT)")
        database.executemany("INSERT INTO experiments VALUES (?)", [(location,) for location in locations])
    prepare_database(root, make_database)
    with contextlib.closing(sqlite3.connect(root / DATABASE)) as database, database:
        rows = database.execute("SELECT artifact_location FROM experiments").fetchall()
    assert rows == [(f"file://{root}/var/mlartifacts",)] * 2

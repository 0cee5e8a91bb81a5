"""Fixtures of the service: databases of both kinds, PostgreSQL by a server of its own in a temporary folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.database.database import Database

SECONDS = 30.0  # to start a server on a busy machine
SETTINGS = ("fsync=off", "full_page_writes=off", "listen_addresses=", "shared_buffers=16MB", "max_connections=60")


class PostgresServer:
    """A PostgreSQL server that listens on a socket in its folder only. Not as root, which it refuses: as nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}
        self._n_databases = 0
        self._call("initdb", "-D", str(folder / "data"), "-U", "minigpt", "-A", "trust", "-E", "UTF8", "--no-sync")
        self.start()

    def start(self) -> None:
        options = [word for setting in SETTINGS for word in ("-c", setting)]
        command = ["postgres", "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, **self.options)
        end = time.monotonic() + SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop at once, as a crash does: what was committed is in the log."""
        self.process.send_signal(3)  # SIGQUIT: the immediate shutdown
        self.process.wait(SECONDS)

    def make_database(self) -> str:
        """Create an empty database; return its URL."""
        self._n_databases += 1
        name = f"test{self._n_databases}"
        self._call("psql", "-h", str(self.folder), "-U", "minigpt", "-d", "postgres", "-qc", f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://minigpt@/{name}?host={self.folder}"

    def _is_ready(self) -> bool:
        command = ["psql", "-h", str(self.folder), "-U", "minigpt", "-d", "postgres", "-qc", "SELECT 1"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _call(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self.options)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Return a running server, one for each worker of the tests."""
    if not (shutil.which("postgres") and shutil.which("initdb") and shutil.which("psql")):
        pytest.skip("there is no PostgreSQL server on this machine")
    with tempfile.TemporaryDirectory(prefix="minigpt-pg-") as name:  # pytest's folders are closed to other users
        folder = Path(name)
        if os.getuid() == 0:
            shutil.chown(folder, "nobody")
        server = PostgresServer(folder)
        yield server
        server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service' / 'service.sqlite'}"
    return request.getfixturevalue("postgres").make_database()


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """Return an open database without rows, of each kind in turn."""
    database = Database.open(database_url)
    yield database
    database.close()

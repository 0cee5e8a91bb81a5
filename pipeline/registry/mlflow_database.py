"""The registry's own database, var/mlflow.db: created whole or not at all, and always about the artifacts of its own workspace.

In: a workspace. Out: the database, made aside and renamed. MLflow stores absolute locations of artifacts; in a workspace that was
moved or copied they are rewritten before the first use, so that a copy never reads or writes the original's files.
Call it under the registry's lock, because a database that several processes create at once is damaged.
"""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from urllib.parse import unquote, urlparse

from pipeline.frame.errors import UserError

DATABASE = Path("var/mlflow.db")
ARTIFACTS = Path("var/mlartifacts")
# Every column of MLflow's schema that holds the location of a file of ours, and which of its rows do.
LOCATIONS = (
    ("experiments", "artifact_location", "1"),
    ("runs", "artifact_uri", "1"),
    ("logged_models", "artifact_location", "1"),
    ("model_versions", "source", "1"),
    ("model_versions", "storage_location", "1"),
    ("trace_tags", "value", "key = 'mlflow.artifactLocation'"),
)
BUSY_SECONDS = 20.0


def prepare_database(root: Path, create: Callable[[str, str], None]) -> str:
    """Return the URI of the workspace's database, after creating it, or pointing it to this workspace if that is necessary.

    `create` makes a database of MLflow's at a URI, for artifacts at another: beside the final path, then it is renamed, so that a
    kill at any moment leaves none, or a whole one.

    Raises `UserError` for a workspace whose path can't be part of MLflow's database URI.
    """
    root = root.resolve()
    if unusable := {"%", "?"} & set(str(root)):
        found = f"{' and '.join(sorted(unusable))} in its path"
        raise UserError(f"{root}: no place for the registry", found, "rename the folder, or set MLFLOW_TRACKING_URI")
    path = root / DATABASE
    if path.exists() and not _is_complete(path):
        aside = path.with_name(path.name + ".unfinished")
        path.replace(aside)
        print(f"registry: {path} was never finished; made again (the old one: {aside})", file=sys.stderr, flush=True)
    if not path.exists():
        partial = path.with_name(path.name + ".partial")
        for leftover in path.parent.glob(partial.name + "*"):
            leftover.unlink()
        create(f"sqlite:///{partial}", (root / ARTIFACTS).as_uri())
        partial.replace(path)
    move_locations(path, root)
    return f"sqlite:///{path}"


def _is_complete(path: Path) -> bool:
    """Return whether MLflow has finished creating this database: it inserts its first experiment after all tables are made.

    Raises `UserError` if the file is no database.
    """
    try:
        with _connect(path) as connection:
            return bool(connection.execute("SELECT count(*) FROM experiments").fetchone()[0])
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return False
        raise
    except sqlite3.DatabaseError as error:
        raise UserError(f"{path}: not a database", str(error), "restore it from a backup, or move it away") from error


def move_locations(path: Path, root: Path) -> None:
    """Rewrite the locations of artifacts if the workspace was moved or copied since the database was last used."""
    with _connect(path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        locations = connection.execute("SELECT artifact_location FROM experiments").fetchall()
        for old in {_find_workspace(location or "") for (location,) in locations} - {"", str(root)}:
            for before, after in ((Path(old).as_uri(), root.as_uri()), (old, str(root))):
                for table, column, rows in LOCATIONS:
                    if table in tables:
                        connection.execute(
                            f"UPDATE {table} SET {column} = :new || substr({column}, length(:old) + 1) "
                            f"WHERE {rows} AND substr({column}, 1, length(:old)) = :old "
                            f"AND substr({column}, 1, length(:new)) <> :new",
                            {"old": before + "/", "new": after + "/"},
                        )


def _find_workspace(location: str) -> str:
    """Return the workspace in which an experiment was created; empty if its artifacts are not in a workspace's own folders."""
    url = urlparse(location)
    path = unquote(url.path)
    if url.scheme not in ("", "file") or not path.startswith("/"):
        return ""
    for folder in (
        f"/{ARTIFACTS}",
        "/mlruns",
    ):  # the second: of the default experiment, in databases that MLflow itself created
        workspace, is_below, rest = path.rpartition(folder)
        if is_below and (not rest or rest.startswith("/")):
            return workspace
    return ""


@contextlib.contextmanager
def _connect(path: Path) -> Generator[sqlite3.Connection]:
    """Open a database as one transaction."""
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection, connection:
        yield connection

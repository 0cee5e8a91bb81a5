"""Keys of our servers: one file each, for its owner alone; a key that others may have read is replaced."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flows.processes.credentials import KEYS, KeyFileError, is_private, read_key


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    keys = {name: read_key(tmp_path, name) for name in ("prefect", "mlflow", "invocations")}
    assert len(set(keys.values())) == 3
    assert all(len(key) >= 43 and key.isascii() for key in keys.values())
    assert read_key(tmp_path, "mlflow") == keys["mlflow"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / KEYS).iterdir() if path.name in keys} == {0o600}
    assert (tmp_path / KEYS).stat().st_mode & 0o777 == 0o700
    assert is_private(tmp_path, "invocations")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_could_read_is_replaced(tmp_path: Path, mode: int) -> None:
    key = read_key(tmp_path, "prefect")
    (tmp_path / KEYS / "prefect").chmod(mode)
    assert read_key(tmp_path, "prefect") != key
    assert is_private(tmp_path, "prefect")


@pytest.mark.parametrize("content", [b"", b"\n", b"short\n"])
def test_an_incomplete_key_is_replaced(tmp_path: Path, content: bytes) -> None:
    read_key(tmp_path, "prefect")
    (tmp_path / KEYS / "prefect").write_bytes(content)
    assert len(read_key(tmp_path, "prefect")) >= 43


def test_where_files_have_no_modes_the_key_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = read_key(tmp_path, "prefect")
    (tmp_path / KEYS / "prefect").chmod(0o666)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)
    assert read_key(tmp_path, "prefect") == key
    assert not is_private(tmp_path, "prefect")


def test_processes_that_start_at_once_read_the_same_key(tmp_path: Path) -> None:
    keys: list[str] = []
    threads = [threading.Thread(target=lambda: keys.append(read_key(tmp_path, "prefect"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(keys), len(set(keys))) == (8, 1)


def test_a_folder_in_the_way_is_an_error_in_three_parts(tmp_path: Path) -> None:
    (tmp_path / KEYS / "prefect").mkdir(parents=True)
    with pytest.raises(KeyFileError, match=r"can't be read or written\n  found: .*\n  to do: "):
        read_key(tmp_path, "prefect")

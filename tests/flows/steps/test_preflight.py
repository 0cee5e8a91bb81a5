"""What would end the first stage with a message of DVC is named before anything starts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.steps.preflight import RWLOCK, PreflightError, check_git, check_names, check_workspace, remove_stale_locks


def make_workspace(root: Path, *, has_git: bool = True) -> Path:
    (root / "data/raw/books").mkdir(parents=True)
    (root / "data/out").mkdir()
    (root / "dvc.yaml").write_text(
        "stages:\n  a: {cmd: a, deps: [data/raw, data/takedowns.jsonl, code], outs: [data/out]}\n"
        "  b: {cmd: b, deps: [data/out/part], outs: [{data/b: {cache: false}}]}\n"
    )
    if has_git:
        (root / ".git").mkdir()
    return root


def test_without_git_the_error_says_what_to_do(tmp_path: Path) -> None:
    root = make_workspace(tmp_path / "workspace", has_git=False)
    with pytest.raises(
        PreflightError, match=r"not a Git repository.*\n  found: no folder .git.*\n  to do: clone .*\n.*git init"
    ):
        check_workspace(root)


@pytest.mark.parametrize("place", [".git", "workspace/.git", "workspace/.dvc/config", "workspace/.dvc/config.local"])
def test_git_in_a_folder_above_and_dvc_without_git_are_fine(tmp_path: Path, place: str) -> None:
    root = make_workspace(tmp_path / "workspace", has_git=False)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("[core]\n    no_scm = true\n" if "config" in place else "gitdir: elsewhere")
    check_git(root)


@pytest.mark.parametrize("name", [b"caf\xe9.txt", b"books/\xff\xfe.txt", b"\xc3(/x.txt", b"books/\xed\xa0\x80"])
def test_a_name_that_is_not_utf8_is_shown(tmp_path: Path, name: bytes) -> None:
    root = make_workspace(tmp_path)
    path = root / "data/raw" / os.fsdecode(name)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    with pytest.raises(PreflightError) as raised:
        check_names(root)
    shown = "".join(f"\\x{byte:02x}" if byte > 127 else chr(byte) for byte in name)
    assert shown.partition("/")[0] in str(raised.value)
    assert "\n  to do: rename" in str(raised.value)


def test_names_of_any_script_are_fine_and_outputs_are_not_looked_at(tmp_path: Path) -> None:
    root = make_workspace(tmp_path)
    for name in ("café", "日本語", "a b\nc", "\U0001f600"):
        (root / "data/raw" / name).write_text("text")
    (root / "data/out" / os.fsdecode(b"caf\xe9")).touch()
    check_workspace(root)


def write_locks(root: Path, pid: int) -> Path:
    info = {"pid": pid, "cmd": "dvc repro"}
    (root / RWLOCK).parent.mkdir(parents=True)
    (root / RWLOCK).write_text(json.dumps({"write": {"data/out": info}, "read": {"data/raw": [info]}}))
    return root / RWLOCK


def test_locks_of_another_program_with_the_same_id_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        path = write_locks(tmp_path, process.pid)
        remove_stale_locks(tmp_path)
        process.communicate(b"\n")
    assert not path.exists()


def test_locks_of_dvc_and_an_unlocked_file_are_kept(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()", "dvc"], stdin=subprocess.PIPE) as process:
        path = write_locks(tmp_path, process.pid)
        remove_stale_locks(tmp_path)
        process.communicate(b"\n")
    assert path.exists()
    path.write_text('{"read": {}, "write": {}}')
    remove_stale_locks(tmp_path)
    assert path.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"write": {"a": 1}}'])
def test_a_half_written_file_of_locks_is_removed(tmp_path: Path, text: str) -> None:
    path = write_locks(tmp_path, 1)
    path.write_text(text)
    remove_stale_locks(tmp_path)
    assert not path.exists()

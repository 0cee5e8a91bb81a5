from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from model.data.verified import VerifiedFiles


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed so far."""
    names, original = [], hashlib.file_digest

    def record(file: Any, algorithm: str) -> Any:
        names.append(Path(file.name).name)
        return original(file, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", record)
    return names


def compute_sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_hashed_once_across_restarts(tmp_path: Path, hashed: list[str]) -> None:
    (tmp_path / "a").write_bytes(b"one")
    for _ in range(3):
        verified = VerifiedFiles(tmp_path / "scratch/record")
        for _ in range(2):
            verified.check(tmp_path / "a", compute_sha256(b"one"))
    assert hashed == ["a"]
    VerifiedFiles().check(tmp_path / "a", compute_sha256(b"one"))
    assert hashed == ["a", "a"]


def test_a_changed_file_is_hashed_again_and_damage_is_named(tmp_path: Path, hashed: list[str]) -> None:
    path, record = tmp_path / "a", tmp_path / "record"
    path.write_bytes(b"one")
    VerifiedFiles(record).check(path, compute_sha256(b"one"))
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    verified = VerifiedFiles(record)
    for _ in range(2):  # damage is not recorded as verified
        with pytest.raises(ValueError, match=rf"damaged.*{path}"):
            verified.check(path, compute_sha256(b"one"))
    verified.check(path, compute_sha256(b"two"))  # the shards were rebuilt
    assert len(hashed) == 4


def test_a_truncated_record_costs_one_hash(tmp_path: Path, hashed: list[str]) -> None:
    record = tmp_path / "record"
    for name in "ab":
        (tmp_path / name).write_bytes(b"one")
        VerifiedFiles(record).check(tmp_path / name, compute_sha256(b"one"))
    record.write_bytes(record.read_bytes()[:-20] + b"\xff")
    for _ in range(2):
        for name in "ab":
            VerifiedFiles(record).check(tmp_path / name, compute_sha256(b"one"))
    assert hashed == ["a", "b", "b"]

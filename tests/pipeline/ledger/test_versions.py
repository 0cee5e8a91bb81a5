"""Which model versions have seen a document, by the token shards in their lineage, with a real registry and DVC's cache."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.frame.errors import UserError
from pipeline.frame.provenance import run_git
from pipeline.ledger.places import DvcCache, read_lineage_at, trace_documents
from pipeline.ledger.states import find_lineage
from pipeline.ledger.versions import NO_REGISTRY, RegisteredVersion, RegisteredVersions, describe_sights
from tests.conftest import ROOT
from tests.fake_repo import DVC_YAML, FakeRepo
from tests.pipeline.ledger.made import an_id, doc, write_corpus

STAGES = """
  download:
    cmd: {python} tests_corpus.py download --out data/download
    deps: [corpus.json]
    outs: [data/download]
  dedupe:
    cmd: sh tests_corpus.sh dedupe --docs data/download --out data/dedupe
    deps: [data/download]
    outs: [data/dedupe]
  filter:
    cmd: sh tests_corpus.sh filter --docs data/dedupe --out data/filter
    deps: [data/dedupe]
    outs: [data/filter]
  shard:
    cmd: sh tests_corpus.sh shard --docs data/filter --out data/shard
    deps: [data/filter]
    outs: [data/shard]
"""
CORPUS = """
import json, pathlib, shutil, sys
from tests.pipeline.ledger.made import doc, write_corpus
numbers = json.loads(pathlib.Path("corpus.json").read_text())
aside = pathlib.Path("aside")
shutil.rmtree(aside, ignore_errors=True)
write_corpus(aside, [doc(number) for number in numbers])
shutil.move(aside / sys.argv[1], pathlib.Path("data") / sys.argv[1])
"""
MOVE = 'mv "aside/$1" "data/$1"\n'  # the first stage has written the folders of the others too


def make_version(number: str, md5: str) -> RegisteredVersion:
    made = {
        "shard": {
            "cmd": "",
            "outs": [{"path": "data/metrics/shard.json", "md5": "0"}, {"path": "data/shard", "md5": md5}],
        }
    }
    return RegisteredVersion(number, ("champion",) if number == "2" else (), "f" * 64, made)


def test_a_missing_registry_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    registry = RegisteredVersions(tmp_path, DvcCache(tmp_path))
    assert registry.versions == []
    assert describe_sights(registry.find_sights([an_id(1)]), registry.note) == [NO_REGISTRY]
    assert not (tmp_path / "var").exists()
    assert "mlflow" not in sys.modules or registry.versions == []


def test_a_version_whose_data_is_not_cached_is_reported(tmp_path: Path) -> None:
    registry = RegisteredVersions(tmp_path, DvcCache(tmp_path))
    registry.__dict__["versions"] = [make_version("2", "ab" * 16 + ".dir"), make_version("1", "")]
    assert describe_sights(registry.find_sights([an_id(1)]), registry.note) == [
        "version 2 (champion): its data is not in the cache (dvc fetch --all-commits data/shard)",
        "version 1: its lineage names no token shards",
    ]


def test_a_state_is_named_by_version_run_name_or_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = RegisteredVersions(tmp_path, DvcCache(tmp_path))
    registry.__dict__["versions"] = [make_version("2", "a"), make_version("1", "b")]
    assert find_lineage(registry, "v1") is registry.versions[1].made
    assert find_lineage(registry, "f" * 12) is registry.versions[0].made
    with pytest.raises(UserError, match="v3: no such model version"):
        find_lineage(registry, "v3")
    for name in ("f", "nowhere", "--output=x"):
        with pytest.raises(UserError, match="no such state of the data"):
            find_lineage(registry, name)


def test_a_revision_without_a_lock_is_an_error(tmp_path: Path) -> None:
    for command in (
        ["init", "-q"],
        ["-c", "user.name=A", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        assert run_git(tmp_path, *command) is not None
    with pytest.raises(UserError, match=r"HEAD: no dvc\.lock"):
        read_lineage_at(tmp_path, "HEAD")


@pytest.mark.slow
def test_a_broken_registry_does_not_hide_other_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus(tmp_path / "data", [doc(1)])
    (tmp_path / "var").mkdir()
    (tmp_path / "var/mlflow.db").write_bytes(b"not a database, but as long as one" * 100)
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.ledger", "why", an_id(1), "--data", "data"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tokens 0 to 9" in done.stdout, done.stderr
    assert "the registered model versions can't be read: " in done.stdout
    assert done.returncode == 0


def test_documents_are_traced_through_stages_in_any_order() -> None:
    stages = {
        "shard": ("x --docs b --out s", ["s"]),
        "two": ("x --docs a --out b", ["m.json", "b"]),
        "one": ("x --out a", ["a"]),
    }
    assert trace_documents(stages) == ["one", "two", "shard"]
    assert trace_documents({"train": ("x", ["t"])}) == []


@pytest.mark.slow
@pytest.mark.timeout(900)  # most of it is Python starting up, which takes long on a busy machine
def test_versions_are_read_from_the_registry(tmp_path: Path) -> None:
    repo = FakeRepo(tmp_path)
    (tmp_path / "dvc.yaml").write_text(DVC_YAML + STAGES.format(python="python"))
    (tmp_path / "tests_corpus.py").write_text(CORPUS)
    (tmp_path / "tests_corpus.sh").write_text(MOVE)
    (tmp_path / "corpus.json").write_text(json.dumps(list(range(1, 30))))
    repo.repro()
    repo.registry("publish")
    (tmp_path / "corpus.json").write_text(json.dumps(list(range(5, 35))))
    repo.repro(seed=2)
    repo.registry("publish")

    gone = repo.ledger("why", an_id(2))
    assert "no such document in data/download" in gone
    assert "version 1: trained on it" in gone
    assert "version 2 (candidate): never saw it" in gone
    assert repo.ledger("why", an_id(10)).count("trained on it") == 2

    values = json.loads(repo.ledger("diff", "v1", "v2", "--json").splitlines()[-1])
    assert (values["lost"]["documents"], values["added"]["documents"]) == (4, 5)
    assert values == json.loads(repo.ledger("diff", "v1", "workspace", "--json").splitlines()[-1]) | {"after": "v2"}
    assert "no such model version" in repo.ledger("diff", "v7", "v2", code=1)
    plan = repo.ledger("takedown", an_id(10), an_id(2), "--reason", "asked", "--takedowns", "takedowns.jsonl")
    assert "trained on 2 of them" in plan
    assert "trained on 1 of them" in plan
    domain = ("--domain", "site2.example.org", "--takedowns", "takedowns.jsonl")
    by_domain = json.loads(repo.ledger("takedown", *domain, "--reason", "asked", "--json").splitlines()[-1])
    assert len(by_domain["documents"]) == 6, "7, 12, … 32"
    assert {number: version["documents"] for number, version in by_domain["versions"].items()} == {"1": 6, "2": 6}, (
        "2, 7, … 27 and 7, 12, … 32"
    )
    alone = ("--domain", "site2.example.org", "--reason", "asked", "--takedowns", "alone.jsonl")
    repo.ledger("takedown", *alone)
    listed = json.loads(repo.ledger("takedown", "--list", "--json", *alone[-2:]).splitlines()[-1])
    assert listed["versions"] == by_domain["versions"], "2 is not collected any more"
    assert "trained on 6 of them" in repo.ledger("takedown", "--list", *alone[-2:])

    shutil.rmtree(tmp_path / ".dvc/cache/files")
    away = repo.ledger("diff", "v1", "v2", code=1)
    assert "v1: data/download is not in DVC's cache" in away
    assert "dvc fetch --all-commits data/download" in away
    output = repo.ledger("why", an_id(10))
    assert "version 1: its data is not in the cache" in output
    assert "version 2 (candidate): trained on it" in output, "the workspace still has it"

"""Run all of docs/takedown.md: a document is taken down, and its text is not in any file any more."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import ipc

from model.tokenizer.tokenizer import Tokenizer
from pipeline.ledger.find import find_documents
from tests.conftest import ROOT
from tests.fake_repo import FakeRepo
from tests.pipeline.ledger.tiny import TinyRepo, document, paragraph

SECRET = "Zanzibar keeps the violet compass."


def find_files_with_secret(root: Path, *folders: str) -> list[str]:
    """Return every file below these folders that contains the secret, whatever its format."""
    tokenizer = Tokenizer.load(root / "data/train_tokenizer")
    return [
        str(path.relative_to(root))
        for folder in folders
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and SECRET in read_as_text(path, tokenizer)
    ]


def read_as_text(path: Path, tokenizer: Tokenizer) -> str:
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        return str(pq.read_table(path).to_pylist())
    if data[:6] == b"ARROW1":
        table: pa.Table = ipc.open_file(pa.BufferReader(data)).read_all()
        return tokenizer.decode(table.column("tokens").to_pylist())
    return data.decode("utf-8", "replace")


def read_guide_commands(title: str) -> str:
    """Return the commands of one section of the guide, verbatim."""
    guide = (ROOT / "docs/takedown.md").read_text(encoding="utf-8")
    section = guide.partition(f"## {title}")[2].partition("\n## ")[0]
    found = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.slow
@pytest.mark.timeout(900)  # most of it is Python starting up, which takes long on a busy machine
def test_the_text_of_a_document_taken_down_is_in_no_file(tmp_path: Path) -> None:
    twin = paragraph(-1, 40)
    documents = [document(number) for number in range(250)]
    documents += [document(900, f"{twin} {SECRET}"), document(901, twin)]
    repo = TinyRepo(tmp_path / "repo", documents)
    repo.repro()
    before = repo.commit("First run")
    [doc] = find_documents(repo.root / "data/download", SECRET)
    [other] = find_documents(repo.root / "data/download", "Page 901")
    assert f"stands in for Page 901 ({other['id'][:12]})" in repo.ledger("why", doc["id"])
    assert "near_duplicate" in repo.ledger("why", other["id"])
    assert any(name.startswith("data/shard") for name in find_files_with_secret(repo.root, "data")), (
        "the check finds it in tokens"
    )

    output = repo.ledger("takedown", doc["id"], "--reason", "asked by its author")
    assert f"stay, or return in their place (--with-duplicates): 1: {other['id']}" in output
    assert "not committed yet" in repo.ledger("why", doc["id"])
    repo.commit("Take down a page")
    repo.repro()
    repo.commit("Second run")
    assert repo.metrics("download")["dropped_takedown"] == 1

    why = repo.ledger("why", doc["id"])
    assert "taken down by id" in why
    assert "(asked by its author)" in why
    assert "by Ada Example in commit" in why
    assert "tokens" in repo.ledger("why", other["id"]), "the other member of the cluster came back"
    assert find_files_with_secret(repo.root, "data") == []
    assert find_files_with_secret(repo.root, ".dvc"), "DVC's cache keeps old data until it is removed"
    differs = repo.ledger("diff", before, "HEAD", "--list", "3")
    assert re.search(r"lost +download +takedown +1", differs)
    assert re.search(r"added +dedupe +near_duplicate +1", differs)

    repo.run("sh", "-e", "-c", read_guide_commands("The local cache"))
    assert find_files_with_secret(repo.root, "data", ".dvc", "scratch") == []
    assert "is not in DVC's cache" in repo.ledger("diff", before, "HEAD", code=1)
    repo.git("checkout", "-q", before)
    repo.python("dvc", "checkout", "-q", code=255)
    assert not (repo.root / "data/download").exists(), "its data has been removed"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_deleted_version_leaves_no_file(tmp_path: Path) -> None:
    repo = FakeRepo(tmp_path)
    repo.repro()
    repo.registry("publish")
    artifacts = tmp_path / "var/mlartifacts"
    assert [path for path in artifacts.rglob("*.safetensors") if path.is_file()]
    with subprocess.Popen(
        ["sh", "-e", "-c", read_guide_commands("Model versions")],
        cwd=tmp_path,
        env=repo.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    assert [path for path in artifacts.rglob("*") if path.is_file()] == []
    assert "no versions yet" in repo.registry("list")

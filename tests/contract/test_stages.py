"""Every stage keeps the contract of stages."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from pipeline.params import STAGES
from tests.conftest import ROOT, read_yaml, run_command, stage_commands

SERIAL = {"MINIGPT_ENGINE": "serial", "MINIGPT_WORKERS": "1"}


def hash_files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def workspace(finished_workspace: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished workspace that a test may break."""
    shutil.copytree(finished_workspace, tmp_path / "work", symlinks=True)
    return tmp_path / "work"


TRAINS = ("pretrain", "sft")  # too long for `make check`


@pytest.mark.parametrize(
    "stage", [pytest.param(stage, marks=[pytest.mark.slow] * (stage in TRAINS)) for stage in STAGES]
)
def test_one_worker_gives_the_same_bytes_and_writes_nothing_elsewhere(
    stage: str, finished_workspace: Path, workspace: Path
) -> None:
    before = hash_files(workspace)
    shutil.rmtree(workspace / "data" / stage)
    assert run_command(workspace, stage_commands()[stage], **SERIAL) == 0
    after = hash_files(workspace)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {f"var/timings/{stage}.json"}
    assert json.loads((workspace / f"var/timings/{stage}.json").read_text())["seconds"] > 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_misspelled_param_is_refused_before_any_work(
    stage: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = hash_files(workspace / "data")
    params = (workspace / "params.yaml").read_text().replace("\nfilter:\n", "\nfilter:\n  lisences: [MIT]\n")
    (workspace / "params.yaml").write_text(params)
    assert run_command(workspace, stage_commands()[stage]) == 1
    assert "filter.lisences" in capsys.readouterr().err
    assert hash_files(workspace / "data") == before


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "download"])
def test_a_missing_input_is_named(stage: str, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = stage_commands()[stage]
    at = next(index for index, word in enumerate(argv) if word.startswith("--"))
    argv[at + 1] = "data/nowhere"
    assert run_command(workspace, argv) == 1
    error = capsys.readouterr().err
    assert argv[at] in error
    assert "data/nowhere" in error
    assert "Traceback" not in error


@pytest.mark.parametrize("stage", ["dedupe", "filter", "index", "train_tokenizer", "shard"])
def test_an_empty_corpus_is_a_clear_error_and_leaves_nothing(
    stage: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pipeline.storage.tables import DOCS, ShardWriter

    empty = workspace / "data" / "empty"
    with ShardWriter(empty, DOCS):
        pass
    argv = stage_commands()[stage]
    argv[argv.index("--docs") + 1] = "data/empty"
    shutil.rmtree(workspace / "data" / stage)
    assert run_command(workspace, argv) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert not (workspace / "data" / stage).exists()
    assert not list((workspace / "data").glob("*.partial"))


def test_the_counts_of_text_stages_reconcile(finished_workspace: Path) -> None:
    for stage in ("download", "dedupe", "filter"):
        metrics = json.loads((finished_workspace / f"data/metrics/{stage}.json").read_text())
        dropped = sum(value for name, value in metrics.items() if name.startswith("dropped_"))
        assert metrics["docs_in"] == metrics["docs_out"] + dropped, stage


def test_every_dropped_document_has_a_row_in_the_ledger(finished_workspace: Path) -> None:
    from pipeline.storage.tables import read_docs, read_table

    for stage, before in (("dedupe", "download"), ("filter", "dedupe")):
        was, now = (
            set(read_docs(finished_workspace / "data" / name, ["id"]).column("id").to_pylist())
            for name in (before, stage)
        )
        ledger = read_table(finished_workspace / "data" / stage / "ledger.parquet").to_pylist()
        assert {row["id"] for row in ledger if row["decision"] == "dropped"} == was - now
        assert all(row["stage"] == stage and row["reason"] for row in ledger)


def test_dvc_yaml_names_params_that_exist() -> None:
    params = read_yaml(ROOT / "params.yaml")
    for name, stage in read_yaml(ROOT / "dvc.yaml")["stages"].items():
        assert stage["params"] == [name]
        assert name in params

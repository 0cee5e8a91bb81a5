"""The registry with a real SQLite store: the life of a model through the commands that a user types."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.frame.errors import UserError
from pipeline.registry.__main__ import main
from pipeline.registry.installed import check_installed, install_files, list_files, move_artifacts
from pipeline.registry.package import AGENT, CODE, SERVING, list_serving_requirements
from pipeline.registry.store import SETTINGS, explain_failure
from tests.conftest import ROOT
from tests.fake_repo import FakeRepo
from tests.house.test_layers import imports

# Triton comes with torch where there is a GPU; the others are imported where a user's collection asks for such a store.
OPTIONAL = {"triton", "faiss", "pymilvus"}
DISTRIBUTIONS = {"Stemmer": "pystemmer"}  # by the name of their package, where that is another one


def test_the_serving_requirements_are_what_the_served_code_imports() -> None:
    seen, waiting = {AGENT}, [AGENT]
    needed: set[str] = set()
    while waiting:
        for name in imports(ROOT / waiting.pop()):
            path = Path(*name.split(".")).with_suffix(".py")
            if name.partition(".")[0] not in CODE:
                needed.add(name.partition(".")[0])
            elif (ROOT / path).is_file() and path not in seen:
                seen.add(path)
                waiting.append(path)
    foreign = {DISTRIBUTIONS.get(name, name) for name in needed - set(sys.stdlib_module_names)}
    assert foreign - OPTIONAL <= set(SERVING)
    assert set(DISTRIBUTIONS.values()) <= foreign


def test_requirements_are_the_exact_versions_of_the_lock(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text(
        "# a comment == this\ntorch==9.9.9 \\\n    --hash=sha256:0\nmlflow==8.8 ; a == b\n"
    )
    pins = list_serving_requirements(tmp_path)
    assert {"torch==9.9.9", "mlflow==8.8"} <= set(pins)
    assert [pin.partition("==")[0] for pin in pins] == list(SERVING)
    assert all(pin.partition("==")[2] for pin in pins)


@pytest.mark.parametrize("arguments", [[], ["polish"], ["pull", "--alias", "best"]])
def test_invalid_arguments_have_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_outside_a_repository_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["list"]) == 1
    assert "not the repository" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "found"), [(OSError(28, "No space left", "var/x"), "var/x: No space left"), (KeyError("x"), "")]
)
def test_a_full_disk_is_a_user_error_and_a_bug_is_not(error: Exception, found: str) -> None:
    failed = explain_failure("publish", error)
    assert (failed.found if failed else "") == found


def test_a_version_without_an_index_of_its_own_is_moved_to_the_same_layout(tmp_path: Path) -> None:
    old, folder = tmp_path / "artifacts/sft", tmp_path / "version"
    for path in (old, folder):
        path.mkdir(parents=True)
    for name in ("config.json", "passages.sqlite"):
        (old / name).write_text(name)
    move_artifacts(old.parent, folder)
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*")} == {
        "model/config.json",
        "index/passages.sqlite",
    }


@pytest.mark.parametrize("parts", [("index",), ("index", "embed"), ("index", "embed", "guard")])
def test_versions_of_every_age_are_installed_with_the_parts_that_they_have(
    parts: tuple[str, ...], tmp_path: Path
) -> None:
    download, folder = tmp_path / "download", tmp_path / "version"
    folder.mkdir()
    for name in ("sft", *parts):
        (download / "artifacts" / name).mkdir(parents=True)
        (download / "artifacts" / name / "file.bin").write_text(name)
    files = list_files(download, "version 1")
    install_files(download, files, folder, "version 1")
    check_installed(folder, files, "version 1")
    assert {path.name for path in folder.iterdir()} == {"model", *parts, "package", "files.json"}
    assert (folder / "package" / "artifacts" / "sft" / "file.bin").read_text() == "sft"
    for part in parts:
        assert (folder / part / "file.bin").read_text() == part
        (folder / part / "file.bin").write_text("x")
        with pytest.raises(UserError, match=rf"{part}/file\.bin was changed"):
            check_installed(folder, files, "version 1")
        (folder / part / "file.bin").write_text(part)


class Registry:
    """Run `python -m pipeline.registry` in this process, in a repository."""

    def __init__(self, repo: FakeRepo, capsys: pytest.CaptureFixture[str]) -> None:
        self.repo, self.capsys = repo, capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        exit_code = main([*arguments, "--json", "var/outcome.json"])
        output = "".join(self.capsys.readouterr())
        assert exit_code == code, output
        return output

    def outcome(self) -> dict[str, Any]:
        return json.loads((self.repo.root / "var/outcome.json").read_text())

    def aliases(self) -> dict[str, str]:
        self("list")
        return self.outcome()["aliases"]

    def in_use(self) -> tuple[str, str]:
        """Return the version in var/champion and how its model answers. What it searches was published with it."""
        folder = self.repo.root / "var/champion"
        about = json.loads((folder / "version.json").read_text())
        answer = json.loads((folder / "model/config.json").read_text())["answer"]
        parts = {
            "index/sections.arrow": "sections",
            "embed/vectors.arrow": "vectors",
            "guard/guard.safetensors": "guard",
        }
        for name, part in parts.items():
            assert [path.name for path in (folder / name).parent.iterdir()] == [Path(name).name]
            assert (folder / name).read_text() == f"{part} of {answer}"
        return about["version"], answer


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Registry]:
    """Return a registry in a repository whose own packages `model` and `assistant` replace ours during the test."""

    def list_loaded() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in CODE]

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)  # and not for the tests after this one
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in list_loaded():
        monkeypatch.delitem(sys.modules, name)
    yield Registry(FakeRepo(tmp_path), capsys)
    for name in list_loaded():
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_models_life(registry: Registry, tmp_path: Path) -> None:
    assert "no versions yet" in registry("list")
    assert "no finished pipeline" in registry("publish", code=1)
    registry.repo.repro(answer="first")
    assert "version 1 of minigpt: published\n" in registry("publish")
    assert "published before" in registry("publish")
    assert "not been through the gate" in registry("promote", code=1)
    assert "no champion yet" in registry("gate")
    assert "version 1 is the champion now" in registry("promote")
    assert registry.in_use() == ("1", "first")

    registry.repo.repro(bpb=1.7, answer="worse")
    registry("publish")
    assert "REFUSED: worse: bpb 1.69" in registry("gate", code=3)
    assert (registry.outcome()["is_passed"], registry.outcome()["outcome"]) == (False, "worse")
    assert "the gate refused it" in registry("promote", code=1)
    assert registry.aliases() == {"champion": "1", "candidate": "2"}
    assert registry.in_use() == ("1", "first")

    registry.repo.repro(bpb=1.2, answer="better")
    registry("publish")
    told = registry("gate")
    assert "passed: better: bpb 1.19" in told
    assert "paired over 60 items" in told
    registry("promote")
    assert registry.aliases() == {"champion": "3", "previous": "1"}
    assert registry.in_use() == ("3", "better")
    assert "Champion" in (tmp_path / "var/report.md").read_text()

    assert "version 1 is the champion again" in registry("rollback")
    assert registry.in_use() == ("1", "first")
    assert "no previous champion" in registry("rollback", code=1)
    assert "rolled back" in registry("gate", "--version", "3", code=3)
    registry("pull", "--version", "2", "--to", "other")
    assert json.loads((tmp_path / "other/model/config.json").read_text())["answer"] == "worse"
    table = registry("list")
    assert all(words in table for words in ("refused", "rolled back", "champion"))
    told = registry("compare", "models:/minigpt/2", "models:/minigpt@champion", "--out", "var/two")
    assert "version 2 → version 1 (champion): better: bpb 1.39" in told
    assert "Bits per byte" in (tmp_path / "var/two/compare.md").read_text()
    assert "version 9: not in the registry" in registry("compare", "models:/minigpt/9", "models:/minigpt/1", code=1)
    assert "no version is previous" in registry("compare", "models:/minigpt@previous", "models:/minigpt/1", code=1)
    assert not (tmp_path / "mlruns").exists()
    check_run(tmp_path)


def check_run(root: Path) -> None:
    """Check the content of the refused version's run."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{root / 'var/mlflow.db'}")
    version = client.get_model_version("minigpt", "2")
    assert [version.tags[name] for name in ("gate", "gate_outcome", "git_commit")] == ["refused", "worse", "unknown"]
    assert "bpb 1.69" in version.tags["gate_reason"]
    assert "| Bits per byte | 1.39" in version.description
    assert version.description.count("### The gate") == 1
    run = client.get_run(version.run_id)
    assert run.data.metrics["sft.steps"] == 3
    assert run.data.params["registry.false_promotion"] == "0.05"
    assert [point.value for point in client.get_metric_history(version.run_id, "sft/loss_nats")] == [5.0, 4.0, 3.0]
    gate = {Path(file.path).name for file in client.list_artifacts(version.run_id, "gate")}
    assert gate == {"report.md", "report.html", "decision.md"}
    names = {file.path for file in client.list_artifacts(version.run_id)}
    assert names >= {"dvc.lock", "dvc.yaml", "params.yaml", "lineage.json", "evaluate", "gate"}
    evaluated = {Path(file.path).name for file in client.list_artifacts(version.run_id, "evaluate")}
    assert evaluated == {"report.md", "report.html", "items.parquet", "figures.json", "composition.json"}


@pytest.mark.slow
def test_two_concurrent_publications_in_a_new_store_make_one_version(tmp_path: Path) -> None:
    """A publication that was killed before leaves no version."""
    repo = FakeRepo(tmp_path)
    repo.repro()
    killed = repo.start("pipeline.registry", "publish")
    artifacts = tmp_path / "var/mlartifacts"
    while killed.poll() is None and not artifacts.exists():
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    both = [repo.start("pipeline.registry", "publish", "--json", f"var/{name}.json") for name in "ab"]
    outputs = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    outcomes = [json.loads((tmp_path / f"var/{name}.json").read_text()) for name in "ab"]
    assert [outcome["version"] for outcome in outcomes] == ["1", "1"]
    assert sorted(outcome["is_new"] for outcome in outcomes) == [False, True]

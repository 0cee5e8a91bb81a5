"""What the registry hands out is what was published: tampered, moved and copied workspaces, with a real store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.inference.local import ModelEngine
from pipeline.registry.__main__ import main
from pipeline.registry.mlflow_database import DATABASE
from tests.conftest import call_main
from tests.fake_repo import FakeRepo

pytestmark = pytest.mark.slow
OTHER_RUN = {
    "MLFLOW_RUN_ID": "0123456789abcdef0123456789abcdef",
    "MLFLOW_EXPERIMENT_ID": "77",
    "MLFLOW_EXPERIMENT_NAME": "someone else's",
    "MLFLOW_ACTIVE_MODEL_ID": "m-0",
    "MLFLOW_REGISTRY_URI": "http://127.0.0.1:9",
}


class BusyShellRepo(FakeRepo):
    """A repository in a shell that `mlflow run` or a platform has prepared for another run."""

    def environment(self) -> dict[str, str]:
        return super().environment() | OTHER_RUN


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> BusyShellRepo:
    """Return a repository whose first version is the champion. Never write to it."""
    repo = BusyShellRepo(tmp_path_factory.mktemp("published") / "a place#1 é")
    repo.repro(answer="first")
    for command in ("publish", "gate", "promote"):
        repo.registry(command)
    return repo


def call(root: Path, *arguments: str, code: int = 0) -> str:
    """Run a command of the registry in this process, in the repository `root`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    return call_main(main, *arguments, folder=root, environment=kept | OTHER_RUN, code=code)


@pytest.fixture
def copy(published: BusyShellRepo, tmp_path: Path) -> Path:
    return shutil.copytree(published.root, tmp_path / "copy", symlinks=True)


def find_artifacts(root: Path) -> Path:
    (model,) = (root / "var/mlartifacts/models").iterdir()
    return model / "artifacts"


def read_all(folder: Path) -> dict[str, bytes | None]:
    """Return the content of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


TAMPER: dict[str, tuple[Callable[[Path], object], str]] = {
    "weights": (
        lambda f: (f / "artifacts/sft/model.safetensors").write_bytes(b"other"),
        "model.safetensors was changed",
    ),
    "config": (lambda f: (f / "artifacts/sft/config.json").write_text("{}"), "artifacts/sft/config.json was changed"),
    "sections": (lambda f: (f / "artifacts/index/sections.arrow").unlink(), "sections.arrow is missing"),
    "vectors": (lambda f: (f / "artifacts/embed/vectors.arrow").unlink(), "vectors.arrow is missing"),
    "guard": (lambda f: (f / "artifacts/guard/guard.safetensors").write_bytes(b"x"), "guard.safetensors was changed"),
    "code": (lambda f: (f / "code/model/answer.py").write_text("evil()"), "code/model/answer.py was changed"),
    "agent": (lambda f: (f / "mlflow_agent.py").write_text("evil()"), "mlflow_agent.py was changed"),
    "MLmodel": (lambda f: (f / "MLmodel").write_text("flavors: {}"), "MLmodel was changed"),
    "requirements": (lambda f: (f / "requirements.txt").write_text("evil"), "requirements.txt was changed"),
    "more code": (lambda f: (f / "code/evil.py").write_text("evil()"), "code/evil.py was added"),
    "bytecode": (lambda f: (f / "code/model/answer.pyc").write_bytes(b""), "code/model/answer.pyc was added"),
    "a pickle": (lambda f: (f / "python_model.pkl").write_bytes(b"evil"), "python_model.pkl was added"),
    "a link": (lambda f: (f / "artifacts/sft/x").symlink_to("/etc/hostname"), "artifacts/sft/x is a symbolic link"),
    "a linked folder": (lambda f: (f / "code/x").symlink_to("/", True), "code/x is a symbolic link"),
}


@pytest.mark.parametrize("name", TAMPER)
def test_a_tampered_version_is_not_pulled_promoted_or_rolled_back_to(copy: Path, name: str) -> None:
    tamper, found = TAMPER[name]
    tamper(find_artifacts(copy))
    assert found in call(copy, "pull", "--version", "1", "--to", "mine", code=1)
    assert not (copy / "mine").exists()
    call(copy, "pull")  # what is installed was checked when it was downloaded
    shutil.rmtree(copy / "var/versions")
    assert found in call(copy, "pull", code=1)
    assert not (copy / "var/champion").exists()


@pytest.mark.parametrize(
    "name",
    [
        "model/config.json",
        "index/sections.arrow",
        "embed/vectors.arrow",
        "guard/guard.safetensors",
        "package/code/model/answer.py",
        "package/MLmodel",
        "files.json",
    ],
)
def test_a_tampered_installation_is_neither_served_nor_talked_to(copy: Path, name: str) -> None:
    """`make invocations` pulls first."""
    with (copy / "var/champion" / name).open("a") as file:
        file.write(" ")
    assert f"{name} was changed" in call(copy, "pull", code=1)
    if name.startswith(("model", "index")):  # what the chat reads
        with pytest.raises(ValueError, match=f"not what was published; found: {name} was changed"):
            ModelEngine.load(copy / "var/champion/model", device="cpu")


def test_added_files_and_links_of_an_installation_are_named(copy: Path) -> None:
    champion = copy / "var/champion"
    (champion / "package/code/evil.py").write_text("evil()")
    (champion / "model/evil.pkl").write_bytes(b"evil")
    (champion / "package/artifacts/sft").unlink()
    (champion / "package/artifacts/sft").symlink_to("/tmp")
    refused = call(copy, "pull", code=1)
    for found in ("model/evil.pkl was added", "code/evil.py was added", "package/artifacts/sft is a symbolic link"):
        assert found in refused
    with pytest.raises(ValueError, match=r"model/evil\.pkl was added"):
        ModelEngine.load(champion / "model", device="cpu")


def test_a_forged_statement_is_refused(copy: Path) -> None:
    (statement,) = (path for path in (copy / "var/mlartifacts").rglob("files.json"))
    files = json.loads(statement.read_text())
    statement.write_text(json.dumps(files | {"code/evil.py": "0" * 64}))
    assert "files.json of its run was changed" in call(copy, "pull", code=1)


def test_an_earlier_version_is_sealed_before_it_is_pulled(copy: Path) -> None:
    with contextlib.closing(sqlite3.connect(copy / DATABASE)) as database, database:
        database.execute("DELETE FROM model_version_tags WHERE key = 'files_sha256'")
    shutil.rmtree(copy / "var/versions")
    refused = call(copy, "pull", code=1)
    assert "seal --version 1" in refused
    call(copy, "seal", "--version", "1")
    call(copy, "pull")
    assert (copy / "var/champion/model/config.json").exists()


@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_a_version_has_a_run_of_its_own_and_a_description(published: BusyShellRepo) -> None:
    """Whatever run, experiment and registry the environment names."""
    import mlflow

    uri = f"sqlite:///{published.root / DATABASE}"
    client = mlflow.MlflowClient(uri, uri)
    version = client.get_model_version("minigpt", "1")
    assert version.run_id != OTHER_RUN["MLFLOW_RUN_ID"]
    run = client.get_run(version.run_id)
    assert client.get_experiment(run.info.experiment_id).name == "minigpt"
    assert run.info.status == "FINISHED"
    words = (
        "Bits per byte",
        "± 0.01",
        "The whole model card",
        "pretrain.model.n_layer",
        "unknown",
        "make chat",
        "pull --version N",
    )
    for each in words:
        assert each in version.description, version.description
    model = client.get_logged_model(version.source.removeprefix("models:/"))
    assert model.params["registry.false_promotion"] == "0.05"
    assert "__pycache__" not in str(list(read_all(find_artifacts(published.root))))


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_moved_or_copied_workspace_uses_its_own_files(
    published: BusyShellRepo, tmp_path: Path, is_moved: bool
) -> None:
    first, second = tmp_path / "first", tmp_path / "deeper/first second"
    shutil.copytree(published.root, first, symlinks=True)
    call(first, "list")
    second.parent.mkdir()
    if is_moved:
        first.rename(second)
    else:
        shutil.copytree(first, second, symlinks=True)
        shutil.rmtree(first / "var/mlartifacts")  # whoever reads the original's files fails
    before = read_all(first) if first.exists() else {}
    shutil.rmtree(second / "var/versions")
    call(second, "pull")
    call(second, "pull", "--version", "1", "--to", "other")
    call(second, "seal", "--version", "1")  # writes artifacts
    assert json.loads((second / "other/model/config.json").read_text())["answer"] == "first"
    assert (read_all(first) if first.exists() else {}) == before
    with contextlib.closing(sqlite3.connect(second / DATABASE)) as database:
        dump = "\n".join(database.iterdump())
    for original in (first, published.root):
        assert f"{original}/" not in dump.replace(f"{second}/", "").replace("%20", " ")
        assert f"{original.as_uri()}/" not in dump.replace(f"{second.as_uri()}/", "")

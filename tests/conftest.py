"""Run every stage once on a tiny corpus with the commands of dvc.yaml, shared by all tests of a session."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from filelock import FileLock
from hypothesis import settings
from ruamel.yaml import YAML

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: tests share the cores, and idle OpenMP threads spin

from pipeline.command import run_stage_command

# The same examples in every run, so that a failure is due to the change at hand: more than 50 of them would cost time in each run
# and show nothing new. `--hypothesis-profile search` tries others.
settings.register_profile("repeatable", max_examples=50, derandomize=True, deadline=None)
settings.register_profile("search", max_examples=1000, deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).parent.parent


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML 1.2 file."""
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def stage_commands() -> dict[str, list[str]]:
    """Return for each stage the arguments that dvc.yaml gives to `python -m pipeline`, in the order of the graph."""
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    return {name: shlex.split(stage["cmd"])[3:] for name, stage in stages.items()}


def run_command(workspace: Path, argv: list[str], **environment: str) -> int:
    """Run one stage in this process with `workspace` as the working directory; return the exit code."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        with contextlib.chdir(workspace):
            return run_stage_command(argv)
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def call_main(
    main: Callable[[list[str]], int], *arguments: str, folder: Path, environment: Mapping[str, str], code: int = 0
) -> str:
    """Call the main function of a command, require its exit code and return what it printed.

    It runs in `folder` with `environment`, like `python -m`, but without the start of an interpreter and its imports (MLflow: 5 s).
    """
    output = io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, environment, clear=True),
        warnings.catch_warnings(action="ignore"),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        exit_code = main(list(arguments))
    assert exit_code == code, output.getvalue()
    return output.getvalue()


def new_workspace(folder: Path, recipe: str = "smoke") -> Path:
    """Create a workspace with the recipe as its params.yaml and the seed texts, but no data; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "docs" / "recipes" / f"{recipe}.yaml", folder / "params.yaml")
    shutil.copytree(ROOT / "data" / "seed", folder / "data" / "seed")
    for name in ("chats", "evaluation", "examples", "feedback", "labels"):
        (folder / "data" / name).mkdir()
        shutil.copy(ROOT / "data" / name / "README.md", folder / "data" / name)
    (folder / "data" / "takedowns.jsonl").touch()
    return folder


def pytest_configure() -> None:
    """Handle Ctrl-C even where a shell started the tests in the background with it ignored: tests send it, also to children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes by their argument: compressed ones contain the time, and two workers would collect tests of different names."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session")
def quiet_training() -> Iterator[None]:
    """Disable torch.compile: compiling costs more than these tiny runs, and the compiled path has tests of its own."""
    os.environ["MINIGPT_COMPILE"] = "0"
    yield
    os.environ.pop("MINIGPT_COMPILE")


def build_once(tmp_path_factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `name`, which one xdist worker fills by `build(folder)` for the whole session. Never write to it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, complete = root / name, root / f"{name}.complete"
    with FileLock(root / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            build(folder)
            complete.touch()
    return folder


HALVED = {"batch_rows": (16, 8), "total_steps": (60, 30), "eval_every": (30, 15), "n_epochs": (10, 5)}


def run_all_stages(workspace: Path) -> None:
    """Create a workspace and run every stage in it, with half the rows, steps and epochs of the smoke recipe."""
    params = new_workspace(workspace) / "params.yaml"
    text = params.read_text()
    for name, (whole, half) in HALVED.items():
        assert f" {name}: {whole}\n" in text or f" {name}: {whole} " in text, name
        text = text.replace(f" {name}: {whole}", f" {name}: {half}")
    params.write_text(text)
    for name, argv in stage_commands().items():
        assert run_command(workspace, argv) == 0, name


@pytest.fixture(scope="session")
def finished_workspace(tmp_path_factory: pytest.TempPathFactory, quiet_training: None) -> Path:
    """Return a workspace in which every stage has run. Read it, never write to it."""
    return build_once(tmp_path_factory, "finished_workspace", run_all_stages)


@pytest.fixture(scope="session")
def prefect_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create Prefect's empty database once, because that takes eight seconds of processor time; return its path."""

    def migrate(home: Path) -> None:
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        subprocess.run(command, env={**os.environ, "PREFECT_HOME": str(home)}, check=True, capture_output=True)

    return build_once(tmp_path_factory, "prefect", migrate) / "prefect.db"

"""A workspace that was moved or copied with its .venv works: make mends the scripts, without the network."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LOCKS = ("requirements.lock",)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a folder with the Makefile, and a .venv with one script in which everything is installed."""
    folder = tmp_path / "first"
    folder.mkdir()
    for name in ("Makefile", *LOCKS):
        shutil.copy(ROOT / name, folder)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], check=True)
    for name in LOCKS:
        shutil.copy(folder / name, folder / ".venv")
    script = folder / ".venv/bin/where"
    script.write_text(f"#!{folder}/.venv/bin/python\nimport sys\nprint(sys.prefix)\n")
    script.chmod(0o755)
    return folder


def install(folder: Path) -> str:
    """Run `make install`; return what it printed and what a script of .venv takes for its .venv."""
    made = subprocess.run(["make", "install"], cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    script = subprocess.run([folder / ".venv/bin/where"], capture_output=True, text=True, check=True)
    return made.stdout + script.stdout


@pytest.mark.parametrize("is_moved", [True, False])
def test_a_venv_that_was_moved_or_copied_is_mended(workspace: Path, tmp_path: Path, is_moved: bool) -> None:
    assert install(workspace) == f"{workspace}/.venv\n"
    second = tmp_path / "deeper/second"
    if is_moved:
        second.parent.mkdir()
        workspace.rename(second)
    else:
        shutil.copytree(workspace, second, symlinks=True)
    assert install(second) == f"mending .venv: it was made in {workspace}/.venv\n{second}/.venv\n"
    assert install(second) == f"{second}/.venv\n"
    assert str(workspace) not in (second / ".venv/bin/activate").read_text()
    if not is_moved:
        assert install(workspace) == f"{workspace}/.venv\n"

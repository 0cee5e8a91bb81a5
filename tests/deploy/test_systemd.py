"""The systemd unit, by systemd's own checks."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from service.service_settings import ServiceSettings
from tests.conftest import ROOT

UNIT = ROOT / "deploy" / "systemd" / "minigpt.service"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="there is no systemd on this machine"
)


@needs_systemd
def test_systemd_understands_every_line(tmp_path: Path) -> None:
    """The program itself is not installed here, so another one stands in its place."""
    unit = tmp_path / "minigpt.service"
    unit.write_text(UNIT.read_text().replace("/opt/minigpt/.venv/bin/python", "/bin/sh"))
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    lines = [line for line in (result.stdout + result.stderr).splitlines() if "minigpt" in line]
    assert (result.returncode, lines) == (0, [])


@needs_systemd
def test_little_is_exposed() -> None:
    """systemd's own score, from 0 (nothing) to 10; below 2 is "OK"."""
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(UNIT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in result.stderr:
        pytest.skip("this systemd can't check a unit that is not loaded")
    assert result.returncode == 0, result.stdout[-500:]


def test_it_drains_before_it_is_killed_and_its_flags_exist() -> None:
    lines = UNIT.read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert int(values["TimeoutStopSec"]) > ServiceSettings().drain_seconds + 10
    assert values["KillMode"] == "mixed"
    flags = {f"--{name.replace('_', '-')}" for name in ServiceSettings.model_fields}
    assert {word for word in values["ExecStart"].split() if word.startswith("--")} <= flags

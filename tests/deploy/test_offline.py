"""On premises: the service starts and answers in a network namespace that has nothing but loopback, and tries nothing else.

It has the packages of the container only, so this is also the test that those are enough.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from model.tokenizer.tokenizer import Tokenizer
from tests.assistant.conftest import save_random_model
from tests.assistant.conftest import tokenizer as tokenizer
from tests.conftest import ROOT

UNSHARE = ["unshare", "--net"] if os.getuid() == 0 else ["unshare", "--map-root-user", "--net"]


def has_namespaces() -> bool:
    """Return whether this machine lets us make a network namespace."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not has_namespaces(), reason="this machine has no unshare, or does not permit network namespaces")
def test_without_a_network_the_service_answers_and_tries_nothing(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "model").mkdir()
    model = save_random_model(tmp_path / "model", tokenizer, phase="sft", seq_len=256)
    command = [*UNSHARE, sys.executable, "tests/deploy/offline_service.py", str(model), str(tmp_path / "state")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=200
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert "error" not in report, report
    assert isinstance(report["answer"], str)
    assert report["tried"] == []
    assert "torch" not in report["missing"], "the service must not even ask for torch on a CPU"

"""Every client's every call works, in a process of its own; the table in docs/api.md says how many there are."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.service.api.clients.__main__ import MODULES
from tests.service.api.clients.api_table import GUIDE, count_checks, replace_table
from tests.service.api.clients.check_list import Target
from tests.service.api.clients.conformity import FORMATS, run_llm_comply, run_schemathesis
from tests.service.api.clients.node_checks import has_package
from tests.service.api.scripted_service import RunningServer


@pytest.mark.slow
@pytest.mark.parametrize("client", MODULES)
def test_all_calls_of_a_client(server: RunningServer, client: str) -> None:
    if client == "openai for Node" and not has_package():
        pytest.skip("Node does not find the package openai (npm install openai; NODE_PATH)")
    words = [sys.executable, "-m", "tests.service.api.clients", client, "--url", f"{server.url}/v1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout, done.stderr[-2_000:]
    results: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    assert {name: problem for name, problem in results.items() if problem} == {}
    assert len(results) == sum(n for (name, _), n in count_checks().items() if name == client)


def test_sixty_calls_of_the_openai_client() -> None:
    assert sum(n for (client, _), n in count_checks().items() if client == "openai") == 60


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_llm_comply(server: RunningServer, format: str) -> None:
    """All pass that apply: pictures are refused by name, and reasoning is not asked of models that do not claim it."""
    result = run_llm_comply(Target(f"{server.url}/v1", "minigpt"), format)
    prefix = "chat-" if format == "openai-chat" else ""
    assert result.failed == (f"{prefix}image-input",)
    assert result.skipped == (f"{prefix}reasoning-summary",)
    assert len(result.passed) == {"openai-chat": 7, "open-responses": 11}[format]


@pytest.mark.slow
def test_schemathesis(server: RunningServer) -> None:
    n_cases, problems = run_schemathesis(server.url, 6)
    assert problems == ""
    assert n_cases > 60


def test_the_table_is_current() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    assert replace_table(text) == text

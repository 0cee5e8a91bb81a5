"""Calls of Simon Willison's command `llm`, configured as its users do: one file that names the model and the address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.service.api.clients.check_list import Target, check

CLIENT = "llm"


def run(target: Target, *words: str) -> str:
    """Run the command with a configuration of its own; return its standard output."""
    with tempfile.TemporaryDirectory() as folder:
        models = [
            f"- model_id: local\n  model_name: {target.model}\n  api_base: {target.url}\n  supports_tools: true\n"
            "  supports_schema: true\n"
        ]
        (Path(folder) / "extra-openai-models.yaml").write_text("".join(models))
        (Path(folder) / "keys.json").write_text(json.dumps({"openai": target.key}))
        environment = {**os.environ, "LLM_USER_PATH": folder, "OPENAI_API_KEY": target.key}
        done = subprocess.run(
            [sys.executable, "-m", "llm", *words],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-800:]
        return done.stdout


@check(CLIENT, "chat")
def prompt(target: Target) -> None:
    assert run(target, "-m", "local", "--no-stream", "-s", "Be brief.", "Hello").strip()


@check(CLIENT, "stream")
def stream(target: Target) -> None:
    assert run(target, "-m", "local", "-o", "temperature", "0", "-o", "max_tokens", "20", "Hello").strip()


@check(CLIENT, "json")
def schema(target: Target) -> None:
    value = json.loads(run(target, "-m", "local", "--schema", "ok bool", "Hello"))
    assert isinstance(value["ok"], bool)

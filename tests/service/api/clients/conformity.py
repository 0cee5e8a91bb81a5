"""Run the testers of others: llm-comply, which has Open Responses' compliance tests, and schemathesis."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.service.api.clients.check_list import Target

FORMATS = ("openai-chat", "open-responses")
SCHEMATHESIS_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)


@dataclass(frozen=True)
class Compliance:
    """The result of llm-comply: ids of tests that passed, failed and did not apply."""

    passed: tuple[str, ...]
    failed: tuple[str, ...]
    skipped: tuple[str, ...]


def run_llm_comply(target: Target, format: str) -> Compliance:
    """Run all tests of a format."""
    words = [_find("llm-comply"), "-u", target.url, "-k", target.key, "-m", target.model, "--format", format, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    rows = json.loads(done.stdout)["results"]
    by_status = {
        status: tuple(row["id"] for row in rows if row["status"] == status)
        for status in ("passed", "failed", "skipped")
    }
    return Compliance(by_status["passed"], by_status["failed"], by_status["skipped"])


def run_schemathesis(url: str, n_examples: int, seed: int = 1) -> tuple[int, str]:
    """Fuzz all operations of /openapi.json. Return the number of cases and the failures, empty for none."""
    words = [_find("st"), "run", f"{url}/openapi.json", "--url", url, "--max-examples", str(n_examples)]
    words += [
        "--seed",
        str(seed),
        "--phases",
        "fuzzing",
        "--checks",
        SCHEMATHESIS_CHECKS,
        "--generation-database",
        "none",
    ]
    environment = {**os.environ, "NO_COLOR": "1"}
    with tempfile.TemporaryDirectory() as folder:  # it keeps what it found in the folder where it runs
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    found = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    if done.returncode or found is None or found[1] != found[2]:
        return 0, done.stdout[-6_000:] or done.stderr[-2_000:]
    return int(found[1]), ""


def _find(command: str) -> str:
    return str(Path(sys.executable).parent / command)

"""Environment variables are defined in one table, which CONTRIBUTING.md repeats, and one module reads them."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from pipeline.frame.environment import VARIABLES
from tests.conftest import ROOT

PACKAGES = ("pipeline", "model", "assistant", "service", "flows", "benchmarks")
BENCHMARKS_ONLY = {"MINIGPT_BENCH_WARC", "MINIGPT_BENCH_WIKIPEDIA", "MINIGPT_LEDGER_DOCS"}
READ_ELSEWHERE = {  # by packages that must not import pipeline
    "assistant/inference/adapters.py": {"MINIGPT_ADAPTERS"},
    "assistant/inference/local.py": {"MINIGPT_WEIGHTS"},
    "assistant/knowledge/collection.py": {"MINIGPT_COLLECTIONS"},
    "assistant/profiles/handover.py": {"MINIGPT_HANDOVERS"},
    "assistant/profiles/learner_log.py": {"MINIGPT_LEARNERS"},
    "assistant/tools/tool_files.py": {"MINIGPT_TOOLS"},
    "flows/processes/guard.py": {"MINIGPT_STOP_SECONDS"},
    "service/access/limiter.py": {"MINIGPT_COUNTERS"},
    "service/database/database.py": {"MINIGPT_DATABASE"},
    "service/processes/open_inference.py": {"MINIGPT_UPSTREAM_KEY"},
    "service/processes/part_commands.py": {"MINIGPT_PARENT"},
    "service/processes/part_protocol.py": {"MINIGPT_INTERNAL_TOKEN"},
    "service/redteam/redteam_commands.py": {"MINIGPT_KEY"},
}


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def list_direct_reads(source: str) -> set[str]:
    """Return the MINIGPT_ variables that a module reads from os.environ or os.getenv; setting or removing one is not reading it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="getenv"), args=[ast.Constant(value=str(name)), *_]):
                names.add(name)
            case ast.Call(func=ast.Attribute(ast.Attribute(attr="environ"), "get"), args=[ast.Constant(str(name)), *_]):
                names.add(name)
            case ast.Call(
                func=ast.Attribute(ast.Attribute(attr="environ"), "pop"), args=[ast.Constant(str(name)), *default]
            ):
                names |= set() if [ast.unparse(each) for each in default] == ["None"] else {name}
            case ast.Subscript(ast.Attribute(attr="environ"), ast.Constant(str(name)), ast.Load()):
                names.add(name)
            case _:
                pass
    return {name for name in names if name.startswith("MINIGPT_")}


def test_contributing_shows_the_table() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Environment variables")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", section.partition("\n## ")[0], re.MULTILINE)
    assert rows == [(each.name, each.meaning, each.default or "–") for each in VARIABLES]


def test_every_variable_that_code_names_is_in_the_table() -> None:
    names = {
        name for path in sources() for name in re.findall(r"\bMINIGPT_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    known = {each.name for each in VARIABLES if each.name.startswith("MINIGPT_")}
    assert names - BENCHMARKS_ONLY == known


@pytest.mark.slow
def test_only_frame_environment_reads_the_variables() -> None:
    reads = {str(path.relative_to(ROOT)): list_direct_reads(path.read_text(encoding="utf-8")) for path in sources()}
    direct = {path: names - BENCHMARKS_ONLY for path, names in reads.items()}
    assert {path: names for path, names in direct.items() if names} == READ_ELSEWHERE


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('os.environ["MINIGPT_A"]', {"MINIGPT_A"}),
        ('os.environ.get("MINIGPT_A", "x")', {"MINIGPT_A"}),
        ('os.getenv("MINIGPT_A")', {"MINIGPT_A"}),
        ('os.environ.pop("MINIGPT_A", "")', {"MINIGPT_A"}),
        ('os.environ["MINIGPT_A"] = "1"', set()),
        ('os.environ.pop("MINIGPT_A", None)', set()),
    ],
)
def test_direct_reads_are_recognized(source: str, expected: set[str]) -> None:
    assert list_direct_reads(source) == expected

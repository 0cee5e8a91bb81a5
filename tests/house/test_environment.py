"""Environment variables are listed once in code, and CONTRIBUTING.md shows that list."""

from __future__ import annotations

import re

from pipeline.frame.environment import VARIABLES
from tests.conftest import ROOT

BENCHMARKS_ONLY = {"MINIGPT_BENCH_WARC", "MINIGPT_BENCH_WIKIPEDIA", "MINIGPT_LEDGER_DOCS"}


def test_contributing_shows_the_table() -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Environment variables")[2]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", section.partition("\n## ")[0], re.MULTILINE)
    assert rows == [(each.name, each.meaning, each.default or "–") for each in VARIABLES]


def test_every_variable_that_code_names_is_in_the_table() -> None:
    names = {
        name
        for package in ("pipeline", "model", "assistant", "flows", "benchmarks")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r"\bMINIGPT_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8"))
    }
    known = {each.name for each in VARIABLES if each.name.startswith("MINIGPT_")}
    assert names - BENCHMARKS_ONLY == known

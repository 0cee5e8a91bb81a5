"""The README's commands work: targets, modules, settings and recipes exist.

`make run` and `make test` themselves are what CI and tests/end_to_end run. After a run,
tests/end_to_end/test_first_hour.py runs the others in their order.
"""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
import warnings
from unittest import mock

import pytest

from pipeline.params import check_params
from pipeline.sweep.compare import parse_values
from pipeline.sweep.space import set_values
from tests.conftest import ROOT, read_yaml

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [
    line.partition("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.partition("#")[0].strip()
]


def test_the_two_commands_come_first() -> None:
    assert LINES[:2] == ["make run", "make test"]


@pytest.mark.parametrize("line", LINES)
def test_a_command_works(line: str) -> None:
    words = shlex.split(line)
    if words[0] == "make":
        process = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert process.returncode == 0, process.stderr
    elif words[2:3] == ["pipeline.sweep.compare"]:
        check_params(set_values(read_yaml(ROOT / "params.yaml"), parse_values(words[3:])))
    elif words[:2] == ["python", "-m"]:
        verb = [word for word in words[3:4] if re.fullmatch(r"[a-z]+", word)]
        with (  # in this process, which has imported most of what they need
            mock.patch.object(sys, "argv", [words[2], *verb, "--help"]),
            warnings.catch_warnings(action="ignore"),  # runpy warns about modules that are imported already
            pytest.raises(SystemExit) as stopped,
        ):
            runpy.run_module(words[2], run_name="__main__")
        assert stopped.value.code == 0
    elif words[0] == "cp":
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0] in ("dvc", "source"), line


def test_every_path_it_names_exists() -> None:
    for path in re.findall(r"`?((?:docs|data|pipeline|model|flows|assistant|service|tests)/[\w./-]*)`?", TEXT):
        assert (ROOT / path.rstrip("./")).exists(), path

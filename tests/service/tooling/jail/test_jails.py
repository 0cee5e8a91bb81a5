"""No code gets out of a jail, as root or nobody; ordinary code runs; what runs it is said; nothing is silently unconfined."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from assistant.tools.tool_declaration import ToolLimits
from service.tooling.jail import code_tool
from service.tooling.jail.code_tool import declare_code_tool, open_code_tool
from service.tooling.jail.cpython_jail import CodeRun, CpythonJail, JailError, check_kernel, probe_interpreter
from service.tooling.jail.jailed_code import ALLOWED, CONDITIONAL
from service.tooling.jail.monty_jail import MontyJail
from tests.conftest import ROOT
from tests.service.tooling.jail.escapes import ENDLESS, ESCAPES, OUTSIDE, RESOURCES

QUICK = ["read a file", "change a mode", "MPTCP", "limit the service", "io_uring", "memory at once"]


def has_jail() -> bool:
    try:
        return check_kernel() > 0
    except JailError:
        return False


needs_jail = pytest.mark.skipif(not has_jail(), reason="the kernel has no Landlock ABI 6")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@pytest.fixture(scope="module")
def cpython() -> CpythonJail:
    return CpythonJail()


@pytest.fixture(scope="module")
def monty() -> Iterator[MontyJail]:
    jail = MontyJail()
    yield jail
    jail.close()


def try_escapes(jail: str, user: str, names: list[str]) -> dict[str, tuple[str, str]]:
    command = [sys.executable, "-m", "tests.service.tooling.jail.escape_run", jail, user, *names]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def check_escapes(results: dict[str, tuple[str, str]]) -> None:
    assert not {name: result for name, result in results.items() if OUTSIDE in result[1]}
    assert {name for name, result in results.items() if result[0] == "time"} <= {*ENDLESS, *RESOURCES}


@needs_jail
@pytest.mark.slow
@pytest.mark.parametrize("user", [pytest.param("root", marks=needs_root), pytest.param("nobody", marks=needs_root)])
def test_no_escape_succeeds(user: str) -> None:
    results = try_escapes("cpython", user, [])
    assert results.keys() == ESCAPES.keys()
    check_escapes(results)


@needs_jail
def test_some_escapes_fail() -> None:
    results = try_escapes("cpython", "root", QUICK)
    check_escapes(results)
    assert {name: ending for name, (ending, _) in results.items() if ending == "raised"}.keys() >= {*QUICK[:4]}


def test_no_escape_succeeds_in_monty() -> None:
    check_escapes(try_escapes("monty", "root", []))


ORDINARY = {
    "6 * 7": "42\n",
    "print('a')\n'b'": "a\n'b'\n",
    "x = 1": "",
    "import json, math\nprint(json.dumps([math.floor(2.5)]))": "[2]\n",
    "sorted({'b': 1, 'a': 2})": "['a', 'b']\n",
    "def f(n):\n    return n if n < 2 else f(n - 1) + f(n - 2)\nf(15)": "610\n",
    "é = 'ü'\né": "'ü'\n",
}


@needs_jail
@pytest.mark.parametrize("code", ORDINARY)
def test_ordinary_code_runs_alike_in_both(cpython: CpythonJail, monty: MontyJail, code: str) -> None:
    for jail in (cpython, monty):
        run = jail.run(code)
        assert (run.ending, run.output) == ("done", ORDINARY[code])


@needs_jail
def test_the_standard_library_threads_and_asyncio_work(cpython: CpythonJail) -> None:
    code = """
import asyncio, collections, csv, datetime, decimal, hashlib, io, queue, random, re, sqlite3, statistics, threading
results = queue.Queue()
thread = threading.Thread(target=results.put, args=(1,))
thread.start()
thread.join()
async def main(): await asyncio.sleep(0.001); return 2
results.get(), asyncio.run(main()), sqlite3.connect(':memory:').execute('select 3').fetchone(), random.random() < 1
"""
    assert cpython.run(code).output == "(1, 2, (3,), True)\n"


@needs_jail
@pytest.mark.parametrize(
    ("code", "ending", "output"),
    [
        ("1 / 0", "raised", 'File "<code>", line 1, in <module>\n    1 / 0'),
        ("x = [", "raised", "SyntaxError"),
        ("raise SystemExit(3)", "raised", ""),
        ("import numpy", "raised", "No module named 'numpy'"),
        ("print('before')\nwhile True: pass", "time", "before\n"),
        ("'x' * 10**9", "memory", "MemoryError"),
        ("import os\nos._exit(0)", "done", ""),
        ("import os\nos.write(1, b'\\x06'); os._exit(1)", "raised", "\x06"),
    ],
)
def test_endings_are_told_apart(cpython: CpythonJail, code: str, ending: str, output: str) -> None:
    run = cpython.run(code, max_seconds=0.7)
    assert run.ending == ending
    assert output in run.output


@needs_jail
def test_output_is_bounded_and_its_flood_costs_nothing(cpython: CpythonJail) -> None:
    before = psutil.Process().memory_info().rss
    run = cpython.run("while True: print('x' * 65536)")
    assert run.ending == "output"
    assert len(run.output) == 8_000
    assert psutil.Process().memory_info().rss - before < 50e6


@needs_jail
def test_runs_at_once_do_not_mix_and_leave_nothing_behind(cpython: CpythonJail) -> None:
    outputs: dict[int, str] = {}

    def run(number: int) -> None:
        outputs[number] = cpython.run(f"import time; time.sleep(0.02); {number}", max_seconds=30).output

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outputs == {number: f"{number}\n" for number in range(8)}
    assert not [child for child in psutil.Process().children() if "python3" in child.name() and "-I" in child.cmdline()]


@needs_jail
def test_code_ends_when_the_service_is_killed() -> None:
    program = (
        "import sys; from service.tooling.jail.cpython_jail import CpythonJail\n"
        "jail = CpythonJail(); print('ready', flush=True); jail.run('import time; time.sleep(600)', max_seconds=600)"
    )
    service = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert service.stdout is not None
    assert service.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 20
    while not (children := psutil.Process(service.pid).children()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)  # the jailed process gives up its rights
    service.send_signal(signal.SIGKILL)
    service.wait()
    service.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@needs_jail
def test_what_cannot_be_confined_does_not_run(cpython: CpythonJail, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = cpython._runner.replace("(22, 2,", "(22, 9,")  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(cpython, "_runner", broken)
    with pytest.raises(JailError, match=r"rights could not be given up; found .*prctl\(22\)"):
        cpython.run("print('it runs')")


def test_the_numbers_of_system_calls_are_the_kernels() -> None:
    headers = [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h")]
    if not all(path.is_file() for path in headers):
        pytest.skip("no kernel headers here")
    for column, path in enumerate(headers):
        pattern = r"#define __NR(?:3264)?_(\w+)\s+(\d+)"
        numbers = {name: int(number) for name, number in re.findall(pattern, path.read_text())}
        numbers.setdefault("newfstatat", numbers.get("fstatat", -1))
        ours = {name: pair[column] for name, pair in (ALLOWED | CONDITIONAL).items() if pair[column] is not None}
        assert ours == {name: numbers[name] for name in ours}


def test_the_guide_counts_the_escapes() -> None:
    assert f"has {len(ESCAPES)} ways out" in (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")


def test_an_interpreter_that_does_not_run_is_named() -> None:
    with pytest.raises(JailError, match=r"the interpreter /nowhere/python does not run; found FileNotFoundError"):
        probe_interpreter("/nowhere/python")


def test_the_fallback_is_never_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> CpythonJail:
        raise JailError("the jail needs Landlock ABI 6 (Linux 6.12); found 3")

    monkeypatch.setattr(code_tool, "CpythonJail", refuse)
    opened = open_code_tool("auto")
    assert opened.declaration is not None
    assert "pydantic-monty" in opened.about
    assert "found 3" in opened.about
    assert "— run by pydantic-monty" in opened.declaration.call_with_text("6 * 7")
    strict = open_code_tool("cpython")
    assert strict.declaration is None
    assert strict.about == "there is no jail here; cpython: the jail needs Landlock ABI 6 (Linux 6.12); found 3"
    assert open_code_tool("off").is_wanted is False


class LostJail:
    """A jail that worked when the service began."""

    engine = "a jail"

    def run(self, code: str, *, max_seconds: float = 5.0, memory_mb: int = 256) -> CodeRun:
        raise JailError("the kernel changed its mind")


def test_a_jail_that_is_lost_later_is_an_error_and_nothing_else_runs_the_code() -> None:
    with pytest.raises(JailError, match="changed its mind"):
        declare_code_tool(LostJail(), ToolLimits()).call_with_text("6 * 7")

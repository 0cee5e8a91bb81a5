"""Run code in the system's CPython, in a jail of Landlock and seccomp (sandlock), one process for each run.

In: Python code of anybody. Out: what it prints, bounded in characters, and how it ended. Each run is a new process of the
interpreter with `-I -S` (no site-packages, no environment, no user's files) that can read the standard library and nothing else.

Covers: reading and writing files, /proc, devices; the network of every family, also UNIX sockets; other processes (signals, ptrace,
memory, priorities, limits); new processes, namespaces, mounts, keyrings, io_uring, bpf, modules, clocks, host names; memory,
processor time, open files, output; the environment's secrets; as root too. tests/service/tooling/jail/escapes.py has the list.
Does not cover: faults of the kernel itself and side channels of the processor; whether a file exists, its size and times (stat);
the names of the machine and its kernel; processor time within the limits. For code of people whom you don't trust at all, run the
service's tools in a virtual machine of their own (`python -m service tools`).

Time: 45 ms of processor time for a run. Memory: `memory_mb` for a run, at most `max_runs` at once.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import BoundedSemaphore, Thread
from typing import IO, Literal

MIN_LANDLOCK_ABI = 6  # Linux 6.12: also signals and abstract UNIX sockets are confined
MAX_CODE_BYTES = 100_000
MAX_OUTPUT_CHARS = 8_000
MAX_RUNS = 4
CONFINED = b"\x06"  # of jailed_code.py
SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_PROBE = """
import sys, os
import ctypes, resource, ssl, decimal, zlib
libraries = {line.split(None, 5)[5].strip() for line in open('/proc/self/maps') if '.so' in line}
print(os.path.realpath(sys.executable), os.path.dirname(os.path.realpath(os.__file__)), sep='\\n')
print(*sorted({os.path.dirname(library) for library in libraries}), sep='\\n')
"""

Ending = Literal["done", "raised", "time", "memory", "output", "killed"]


@dataclass(frozen=True)
class CodeRun:
    """How a run of code ended, and what it printed. `engine` says what ran it."""

    ending: Ending
    output: str
    engine: str
    seconds: float = 0.0


class JailError(RuntimeError):
    """The jail can't be used here; the message is the reason."""


@dataclass(frozen=True)
class Interpreter:
    """An interpreter and the folders that it needs to read."""

    executable: str
    stdlib: str
    libraries: tuple[str, ...]


class CpythonJail:
    """Runs code; thread-safe. Raises: JailError, when made, where the kernel or the interpreter is not up to it."""

    def __init__(self, python: str = "", max_runs: int = MAX_RUNS) -> None:
        self.abi = check_kernel()
        self.interpreter = probe_interpreter(python or find_system_python())
        self._runner = Path(__file__).with_name("jailed_code.py").read_text(encoding="utf-8")
        self._slots = BoundedSemaphore(max_runs)
        self.engine = f"CPython in a sandlock jail (Landlock ABI {self.abi}, seccomp)"
        tried = self.run("6 * 7", max_seconds=10.0)
        if (tried.ending, tried.output) != ("done", "42\n"):
            raise JailError(f"the jail does not run code; found {tried.ending}: {tried.output[:200]!r}")

    def run(self, code: str, *, max_seconds: float = 5.0, memory_mb: int = 256) -> CodeRun:
        """Run code to its end or to a limit. Raises: JailError if it could not be confined; then nothing has run."""
        data = code.encode("utf-8", errors="replace")
        started = time.monotonic()
        if not self._slots.acquire(timeout=max_seconds):
            return CodeRun("time", "", self.engine, max_seconds)
        try:
            left = max(max_seconds - (time.monotonic() - started), 0.1)
            return self._run(data, started, left, memory_mb)
        finally:
            self._slots.release()

    def _run(self, code: bytes, started: float, max_seconds: float, memory_mb: int) -> CodeRun:
        from sandlock import Sandbox, StdioMode

        python = self.interpreter
        sandbox = Sandbox(
            fs_readable=[python.executable, python.stdlib, *python.libraries],
            fs_denied=[
                folder
                for name in ("site-packages", "dist-packages")
                if Path(folder := f"{python.stdlib}/{name}").exists()
            ],
            max_processes=1,
            max_open_files=64,
            no_coredump=True,
            clean_env=True,
            env={},
            cwd="/",
        )
        seconds = str(int(max_seconds) + 1)
        command = [python.executable, "-I", "-S", "-c", self._runner, str(memory_mb), seconds]
        try:
            process = sandbox.popen(command, StdioMode.PIPED, StdioMode.PIPED, StdioMode.NULL)
        except RuntimeError as error:
            raise JailError(f"the jail can't be made; found {error}") from error
        deadline = time.monotonic() + max_seconds
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            Thread(target=_feed, args=(process.stdin, code), daemon=True).start()
            output, stopped = _read_output(process.stdout, deadline)
            if stopped is not None:
                process.kill()
            result = process.wait(timeout=1.0)
        text = output.removeprefix(CONFINED).decode("utf-8", errors="replace")[:MAX_OUTPUT_CHARS]
        if not output.startswith(CONFINED) and stopped != "time":
            raise JailError(f"rights could not be given up; found {text[:200]!r}")
        ending = stopped or _name_ending(result.exit_code, text)
        return CodeRun(ending, text, self.engine, time.monotonic() - started)


@cache
def check_kernel() -> int:
    """Return the version of Landlock. Raises: JailError for a system without what the jail needs."""
    if sys.platform != "linux":
        raise JailError(f"the jail needs Linux; found {sys.platform}")
    from sandlock import landlock_abi_version

    try:
        abi = landlock_abi_version()
    except Exception as error:
        raise JailError(f"the kernel has no Landlock; found {type(error).__name__}") from error
    if abi < MIN_LANDLOCK_ABI:
        raise JailError(f"the jail needs Landlock ABI {MIN_LANDLOCK_ABI} (Linux 6.12); found {abi}")
    return abi


def find_system_python() -> str:
    """Return the system's interpreter, or the one of this environment where there is none."""
    own = getattr(sys, "_base_executable", sys.executable)
    return next((path for path in SYSTEM_PYTHONS if os.access(path, os.X_OK)), own)


@cache
def probe_interpreter(executable: str) -> Interpreter:
    """Return what an interpreter has to read. Raises: JailError if it does not run."""
    command = [executable, "-I", "-S", "-c", _PROBE]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30, env={}).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise JailError(f"the interpreter {executable} does not run; found {type(error).__name__}") from error
    path, stdlib, *libraries = output.splitlines()
    return Interpreter(path, stdlib, tuple(dict.fromkeys([*libraries, *_find_loaders(path)])))


def _find_loaders(executable: str) -> list[str]:
    """Return the folders of an interpreter's dynamic loader and library."""
    folders = ["/lib64", str(Path(executable).parent.parent / "lib")]
    return [folder for folder in folders if Path(folder).is_dir() and folder not in ("/lib", "/usr/lib")]


def _feed(stream: IO[bytes], data: bytes) -> None:
    try:
        with stream:
            view = memoryview(data)
            while view:
                view = view[stream.write(view) :]
    except OSError:  # the code ended before it was read
        return


def _read_output(stream: IO[bytes], deadline: float) -> tuple[bytes, Ending | None]:
    """Read until the end, the deadline, or more than anybody wants to read; return why it stopped before the end."""
    chunks: list[bytes] = []
    n_bytes = 0
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return b"".join(chunks), "time"
            chunk = os.read(stream.fileno(), 65_536)
            if not chunk:
                return b"".join(chunks), None
            chunks.append(chunk)
            n_bytes += len(chunk)
            if n_bytes > 4 * MAX_OUTPUT_CHARS:
                return b"".join(chunks), "output"


def _name_ending(exit_code: int, output: str) -> Ending:
    if exit_code == 0:
        return "done"
    if "MemoryError" in output[-200:]:
        return "memory"
    return "raised" if exit_code > 0 else "killed"

"""Run code in pydantic-monty, an interpreter of its own for a part of Python, where the kernel has no jail for CPython.

In: Python code of anybody. Out: what it prints, and the value of its last expression. The interpreter runs in a worker process; it
has no system calls to offer: no files, no network, no processes, no environment, no clock but the time of day.

Covers: everything that needs a system call, since there is none; memory, time, recursion, output. It works on every kernel.
Does not cover: faults of the interpreter itself, in which code of its worker process could run; most of the standard library
(15 of 20 ordinary snippets run). What it can't run is an exception by name, never a wrong result.

Time: 1 ms for a run after the first, which starts a worker in 20 ms. Memory: `memory_mb` for a run.
"""

from __future__ import annotations

import time
from threading import BoundedSemaphore, Lock
from typing import Any

from service.tooling.jail.cpython_jail import MAX_OUTPUT_CHARS, MAX_RUNS, CodeRun, Ending, JailError


class MontyJail:
    """Runs code; thread-safe. Raises: JailError, when made, where the interpreter does not run."""

    def __init__(self, max_runs: int = MAX_RUNS) -> None:
        from pydantic_monty import Monty, __version__

        self.engine = f"pydantic-monty {__version__} (a part of Python)"
        self._slots, self._lock, self._max_runs = BoundedSemaphore(max_runs), Lock(), max_runs
        self._pool: Any = Monty(min_processes=0, max_processes=max_runs, max_checkouts_per_worker=1)
        try:
            self._pool.__enter__()
        except Exception as error:
            raise JailError(f"pydantic-monty does not start; found {type(error).__name__}: {error}"[:300]) from error
        tried = self.run("6 * 7", max_seconds=10.0)
        if (tried.ending, tried.output) != ("done", "42\n"):
            raise JailError(f"pydantic-monty does not run code; found {tried.ending}: {tried.output[:200]!r}")

    def close(self) -> None:
        """End the workers."""
        self._pool.__exit__(None, None, None)

    def run(self, code: str, *, max_seconds: float = 5.0, memory_mb: int = 256) -> CodeRun:
        """Run code to its end or to a limit."""
        started = time.monotonic()
        if not self._slots.acquire(timeout=max_seconds):
            return CodeRun("time", "", self.engine, max_seconds)
        try:
            left = max(max_seconds - (time.monotonic() - started), 0.1)
            ending, output = self._run(code, left, memory_mb)
        finally:
            self._slots.release()
        return CodeRun(ending, output[:MAX_OUTPUT_CHARS], self.engine, time.monotonic() - started)

    def _run(self, code: str, max_seconds: float, memory_mb: int) -> tuple[Ending, str]:
        from pydantic_monty import CollectString, MontyCrashedError, MontyError, MontyRuntimeError, MontySyntaxError

        printed = CollectString(max_bytes=4 * MAX_OUTPUT_CHARS)
        limits: Any = {
            "max_feed_duration_secs": max_seconds,
            "max_memory": memory_mb << 20,
            "max_suspensions": 100,
            "max_total_sleep_secs": max_seconds,
        }
        try:
            with self._pool.checkout(script_name="code.py", limits=limits) as session:
                value = session.feed_run(code, print_callback=printed)
        except MontyCrashedError as error:
            return ("time" if error.timed_out else "killed"), printed.output
        except (MontyRuntimeError, MontySyntaxError) as error:
            kind = type(error.exception()).__name__
            ending: Ending = {"TimeoutError": "time", "MemoryError": "memory"}.get(kind, "raised")  # type: ignore[assignment]
            return _tell_flood(ending, printed.output), f"{printed.output}{error.display()}\n"
        except MontyError as error:
            return "raised", f"{printed.output}{error}\n"
        return "done", printed.output + ("" if value is None else f"{value!r}\n")


def _tell_flood(ending: Ending, output: str) -> Ending:
    """Return `output` for a MemoryError of the text that was printed."""
    return "output" if ending == "memory" and len(output) >= MAX_OUTPUT_CHARS else ending

"""python -m service supervise: gateway, inference, retrieval and tools as processes of this machine; who dies is restarted.

In: the flags of `serve`. Out: one service at --host and --port, whose parts can fail by themselves. They get a token of their own,
made anew each time, and listen on loopback. With `--instances 2` there are two of each part: while a dead one restarts (1 to 2
seconds of processor time), the other one answers. SIGTERM or Ctrl-C: the gateway ends its answers first, then the parts end.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.processes.part_commands import PORTS
from service.processes.part_protocol import TOKEN_VARIABLE
from service.service_settings import ServiceSettings, add_flags, read_settings

POLL_SECONDS = 0.05
FIRST_PAUSE_SECONDS = 0.1  # before a restart; twice as long each time, until a process has lived for a while
MAX_PAUSE_SECONDS = 5.0
LIVED_SECONDS = 30.0
STOP_SECONDS = 5.0  # beyond the time to drain


@dataclass
class Child:
    """A process that has to run: how it is started, and how often it has failed in a row."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    n_failures: int = field(default=0)


class Supervisor:
    """Keeps processes running. `step` does what is due now and never blocks."""

    def __init__(self, children: Sequence[Child], clock: Callable[[], float] = time.monotonic) -> None:
        self.children, self._clock = list(children), clock

    def step(self, report: Callable[[str], None] = lambda line: None) -> None:
        """Start what is not running and is due; note what has died."""
        now = self._clock()
        for child in self.children:
            if child.process is not None and (code := child.process.poll()) is not None:
                child.n_failures = 1 if now - child.started_at > LIVED_SECONDS else child.n_failures + 1
                pause = min(FIRST_PAUSE_SECONDS * 2 ** (child.n_failures - 1), MAX_PAUSE_SECONDS)
                child.process, child.restart_at = None, now + pause
                report(f"{child.name} ended with {code}; restarting in {pause:.1f} s")
            if child.process is None and now >= child.restart_at:
                child.process, child.started_at = child.start(), now

    def stop(self, seconds: float) -> None:
        """Ask each process to end, in order, and wait for it; kill it after `seconds`."""
        for child in self.children:
            if child.process is None:
                continue
            child.process.terminate()
            try:
                child.process.wait(seconds)
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()


def add_commands(subparsers: Any) -> None:
    """Add the command supervise."""
    about = "the service as four processes of this machine, restarted when they die"
    parser = subparsers.add_parser("supervise", help=about, description=__doc__)
    add_flags(parser)
    parser.add_argument("--instances", type=int, default=1, choices=range(1, 9), metavar="N", help="of each part (1)")
    parser.set_defaults(run=supervise)


def supervise(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code. Raises: ValueError for user errors."""
    settings = read_settings(args)
    supervisor = Supervisor(make_children(args, settings))
    is_over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: is_over.set())
    try:
        while not is_over.wait(POLL_SECONDS):
            supervisor.step(lambda line: print(line, file=sys.stderr, flush=True))
    finally:
        supervisor.stop(settings.drain_seconds + STOP_SECONDS)
    return 0


def make_children(args: argparse.Namespace, settings: ServiceSettings) -> list[Child]:
    """Return the gateway and its parts, each with the flags of this command."""
    instances = [(name, _find_free_port()) for name in PORTS for _ in range(args.instances)]
    own = {"MINIGPT_PARENT": str(os.getpid()), TOKEN_VARIABLE: secrets.token_hex(32)}
    flags = _repeat_flags(args)
    addresses = [f"--{name}=http://127.0.0.1:{port}" for name, port in instances]
    gateway = _make_child("gateway", flags, own, addresses)
    parts = [_make_child(name, flags, own, ["--host=127.0.0.1", f"--port={port}"]) for name, port in instances]
    return [gateway, *parts]


def _make_child(name: str, flags: Sequence[str], own: Mapping[str, str], more: Sequence[str]) -> Child:
    command = [sys.executable, "-m", "service", name, *flags, *more]
    return Child(name, lambda: subprocess.Popen(command, env={**os.environ, **own}, start_new_session=True))


def _repeat_flags(args: argparse.Namespace) -> list[str]:
    """Return the flags that this command was given."""
    names = ("settings", *ServiceSettings.model_fields)
    flags: list[str] = []
    for name in names:
        value: Any = getattr(args, name, None)
        values: list[Any] = value if isinstance(value, list) else [] if value is None else [value]
        flags += [f"--{name.replace('_', '-')}={each}" for each in values]
    return flags


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

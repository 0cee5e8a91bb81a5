"""python -m tests.service.tooling.jail.escape_run JAIL USER [NAME …]: try the ways out of a jail as root or as nobody.

A process of its own, since it gives up its user. Out: one JSON line, {name: [ending, output]}, after a check that nothing outside
has changed.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

import sandlock._sdk  # type: ignore[import-untyped]  # noqa: F401  # before the user changes: nobody may not read root's files

from service.tooling.jail.cpython_jail import CodeRun, CpythonJail
from service.tooling.jail.monty_jail import MontyJail
from tests.service.tooling.jail.escapes import ENDLESS, ESCAPES, PRELUDE, RESOURCES

NOBODY = 65534


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, as a process that nobody has started


def main(jail_name: str, user: str, names: list[str]) -> None:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    canary = folder / "canary"
    canary.write_text("secret")
    canary.chmod(0o666)
    listeners = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    datagrams = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)]
    listeners[0].bind(("127.0.0.1", 0))
    port = listeners[0].getsockname()[1]
    abstract = f"minigpt_{os.getpid()}"
    for listener, address in zip(listeners[1:], (f"{folder}/socket", f"\0{abstract}"), strict=True):
        listener.bind(address)
    for listener in listeners:
        listener.listen()
    datagrams[0].bind(("127.0.0.1", port))
    datagrams[1].bind(f"{folder}/socketd")
    for path in folder.iterdir():
        path.chmod(0o666)
    os.environ["MINIGPT_SECRET"] = "secret"
    if user == "nobody":
        os.chown(canary, NOBODY, NOBODY)
        become_nobody()
    before = (canary.stat(), socket.gethostname(), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0))
    jail = CpythonJail() if jail_name == "cpython" else MontyJail()
    short = ENDLESS if jail_name == "cpython" else ENDLESS | RESOURCES
    results: dict[str, tuple[str, str]] = {}
    for name in names or ESCAPES:
        code = PRELUDE + ESCAPES[name]
        for key, value in {"canary": canary, "port": port, "pid": os.getpid(), "socket": folder / "socket"}.items():
            code = code.replace(f"{{{key}}}", str(value))
        run: CodeRun = jail.run(code.replace("{abstract}", abstract), max_seconds=0.4 if name in short else 5.0)
        results[name] = (run.ending, run.output[-300:])
    after = (canary.stat(), socket.gethostname(), os.getpriority(os.PRIO_PROCESS, 0), os.sched_getaffinity(0))
    assert before[1:] == after[1:]
    assert before[0][:8] == after[0][:8]  # mode, inode, device, links, owner, group, size
    assert canary.read_text() == "secret"
    assert not Path("/tmp/minigpt_outside").exists()
    for each in datagrams:
        each.setblocking(False)
        try:
            raise AssertionError(f"received {each.recv(10)!r}")
        except BlockingIOError:
            continue
    if isinstance(jail, MontyJail):
        jail.close()
    print(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

"""Run `python -m service serve` where there is no network, with the container's packages alone, and ask it something.

    unshare --net python tests/deploy/offline_service.py MODEL STATE

Prints one JSON object: the answer, the addresses outside this machine that any code has tried to reach, and the packages that were
asked for and are not in the container.
"""

from __future__ import annotations

import fcntl
import importlib.abc
import ipaddress
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
import urllib.request
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OURS = {"service", "assistant", "model", "pipeline", "tests"}
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40


class ContainerPackages(importlib.abc.MetaPathFinder):
    """Finds no module of a package that the container does not have."""

    def __init__(self) -> None:
        lines = (ROOT / "deploy" / "container" / "packages.txt").read_text(encoding="utf-8").splitlines()
        self.packages = {line for line in lines if line and not line.startswith("#")}
        self.made_by = packages_distributions()
        self.missing: set[str] = set()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        name = fullname.partition(".")[0]
        makers = [re.sub(r"[-_.]+", "-", each).lower() for each in self.made_by.get(name, [])]
        if name not in OURS and makers and not self.packages & set(makers):
            self.missing.add(name)
            raise ModuleNotFoundError(f"No module named {name!r} in the container", name=name)


def raise_loopback() -> None:
    """Switch the loopback interface on: a new network namespace has it, switched off."""
    with socket.socket() as any_socket:
        request = struct.pack("16sh", b"lo", IFF_UP | IFF_RUNNING)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, request)


def is_outside(host: object) -> bool:
    """Return whether an address is not this machine's."""
    text = str(host.decode() if isinstance(host, bytes) else host)
    try:
        return not ipaddress.ip_address(text).is_loopback
    except ValueError:
        return text not in ("localhost", "None")


def main(model: str, state: str) -> int:
    """Serve, ask, print what happened. Return the exit code of the service."""
    raise_loopback()
    tried: set[str] = set()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        host: object = None
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        elif event == "socket.getaddrinfo":
            host = arguments[0]
        if host is not None and is_outside(host):
            tried.add(str(host))

    sys.addaudithook(watch)
    finder = ContainerPackages()
    sys.meta_path.insert(0, finder)
    report: dict[str, Any] = {}
    log = Path(state).with_suffix(".log")

    def ask() -> None:
        try:
            end = time.monotonic() + 120
            while not (found := re.search(r"serving (http://\S+)", log.read_text() if log.exists() else "")):
                assert time.monotonic() < end
                time.sleep(0.05)
            body = {"model": "minigpt", "messages": [{"role": "user", "content": "What is 12 * 7?"}], "max_tokens": 20}
            request = urllib.request.Request(
                f"{found[1]}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                report["answer"] = json.load(response)["choices"][0]["message"]["content"]
        except Exception as error:
            report["error"] = repr(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=ask, daemon=True).start()
    output, sys.stdout = sys.stdout, log.open("w")
    from service.__main__ import main as serve

    code = serve(["serve", "--model", model, "--state", state, "--port", "0"])
    print(json.dumps(report | {"tried": sorted(tried), "missing": sorted(finder.missing)}), file=output)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

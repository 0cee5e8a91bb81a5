"""python -m benchmarks [NAME …] [--json]: run claims beside their peers on this machine; without names, all of them.

Every benchmark is a file here with `run() -> Result`: the same work done by ours and by the peer, in turn, in one run. With
`--json` the last line of each is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import sys
from dataclasses import asdict

import benchmarks
from benchmarks.measure import Result

NO_CLAIMS = ("__main__", "generated", "gpu_peers", "measure", "models", "stages")


def names() -> list[str]:
    """Every benchmark there is."""
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in NO_CLAIMS)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="*", choices=[[], *names()], help="default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object per benchmark")
    args = parser.parse_args(argv)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {platform.system()}")
    for name in args.name or names():
        result: Result | None = importlib.import_module(f"benchmarks.{name}").run()
        if result is None:  # it has said why it can't run here
            continue
        print(f"{name}: {result.work}")
        print(f"  ours  {result.ours:>12,.0f} {result.unit}")
        if result.peer is not None:
            print(f"  peer  {result.peer:>12,.0f} {result.unit}   {result.peer_name}")
            print(f"  ratio {result.ratio:>12.1f}")
        if args.json:
            print(json.dumps({"name": name, **asdict(result), "ratio": result.ratio}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

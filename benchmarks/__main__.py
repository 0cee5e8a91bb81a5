"""python -m benchmarks [NAME …] [--json] [--PEER PATH]: run claims beside their peers on this machine; without names, all of them.

Every benchmark is a file here with `run() -> Result`: the same work done by ours and by the peer, in turn, in one run. A peer that
is no package is given as the path of a checkout, `--nanogpt PATH`: the parameters of `run` say which. With `--json` the last line
of each is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import os
import pkgutil
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import benchmarks
from benchmarks.measure import Result
from pipeline.errors import UserError

NO_CLAIMS = ("__main__", "generated", "gpu_peers", "measure", "models", "stages", "train_minimind")
PEERS = ("nanogpt", "minimind", "nanochat", "torchtitan")  # checkouts


def names() -> list[str]:
    """Every benchmark there is."""
    return sorted(m.name for m in pkgutil.iter_modules(benchmarks.__path__) if m.name not in NO_CLAIMS)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="*", choices=[[], *names()], help="default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON object per benchmark")
    for peer in PEERS:
        parser.add_argument(f"--{peer}", type=Path, metavar="PATH", help=f"a checkout of {peer}")
    args = parser.parse_args(argv)
    given = {peer: path.resolve() for peer in PEERS if (path := getattr(args, peer))}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{platform.machine()}, {cores} cores, Python {platform.python_version()}, {platform.system()}")
    code = 0
    for name in args.name or names():
        claim: Callable[..., Result | None] = importlib.import_module(f"benchmarks.{name}").run
        wanted = inspect.signature(claim).parameters
        try:
            result = claim(**{peer: path for peer, path in given.items() if peer in wanted})
        except UserError as error:
            print(f"{name}: error: {error}", file=sys.stderr)
            code = max(code, 1 if args.name else 0)  # of all, those without their peer are passed over
            continue
        if result is None:  # it has said why it can't run here
            continue
        show(name, result)
        if args.json:
            print(json.dumps({"name": name, **asdict(result), "ratio": result.ratio}), flush=True)
    return code


def show(name: str, result: Result) -> None:
    print(f"{name}: {result.work}")
    print(f"  ours  {number(result.ours):>12} {result.unit}")
    if result.peer is not None and result.ratio is not None:
        print(f"  peer  {number(result.peer):>12} {result.unit}   {result.peer_name}")
        print(f"  ratio {number(result.ratio):>12}")


def number(value: float) -> str:
    """Whole where it is large, three digits where it is small."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())

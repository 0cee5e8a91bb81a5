"""python -m benchmarks [NAME …] [--json FILE] [options]: measure claims against their peers; all of them without names.

Every benchmark is a module in text/, pages/, training/, serving/ or service/ with `run(**options) -> Result | None`; its docstring
states the claim, and its options become flags (`--n-docs 100`). Peers that are not packages are given as checkouts
(`--nanogpt PATH`). Without names, a benchmark whose peer is missing is skipped with a message.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import inspect
import itertools
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.measure import ROOT, Result, Row, format_value, print_rows
from pipeline.frame.errors import UserError

ROOMS = ("text", "pages", "training", "serving", "service")
PARSERS: dict[str, Callable[[str], Any]] = {
    "int": int,
    "int | None": int,
    "float": float,
    "str": str,
    "Path": Path,
    "Path | None": lambda text: Path(text).resolve(),
    "tuple[int, ...]": lambda text: tuple(int(part) for part in text.split(",")),
    "tuple[str, ...]": lambda text: tuple(text.split(",")),
}


@cache
def find_benchmarks() -> dict[str, Path]:
    """Return the file of every benchmark, by name: the modules of the rooms that define `run`."""
    paths = sorted(path for room in ROOMS for path in (ROOT / "benchmarks" / room).glob("*.py"))
    return {path.stem: path for path in paths if "\ndef run(" in path.read_text(encoding="utf-8")}


def claim(name: str) -> str:
    """Return the first line of a benchmark's docstring, without importing it."""
    tree = ast.parse(find_benchmarks()[name].read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def load_benchmark(name: str) -> Callable[..., Result | None]:
    """Import a benchmark. Raises: `UserError` if a package that it needs is not installed."""
    try:
        return importlib.import_module(f"benchmarks.{find_benchmarks()[name].parent.name}.{name}").run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("benchmarks", "model", "pipeline"):
            raise
        raise UserError(f"{name}: a package is missing", str(error), "pip install '.[peers]'") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code: 1 if a benchmark that was named could not run."""
    argv = sys.argv[1:] if argv is None else argv
    first = [*itertools.takewhile(lambda word: not word.startswith("-"), argv)]
    options = vars(make_parser([name for name in first if name in find_benchmarks()]).parse_args(argv))
    named, file, is_list = options.pop("name"), options.pop("json"), options.pop("list")
    if is_list or not named:
        print("\n".join(f"{name:<20}{claim(name)}" for name in named or find_benchmarks()), flush=True)
    if is_list:
        return 0
    context, results, n_failed = describe_run(), list[dict[str, Any]](), 0
    print(", ".join(f"{key}: {value}" for key, value in context.items()), flush=True)
    for name in named or find_benchmarks():
        try:
            result = run_benchmark(name, options)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            n_failed += 1
            continue
        if result is None:  # it has printed why it can't run here
            continue
        show(name, result)
        results.append({"name": name, **asdict(result), "ratio": result.ratio})
        if file is not None:
            file.write_text(json.dumps({**context, "results": results}, indent=2) + "\n", encoding="utf-8")
    if len(results) > 1:
        print_rows([summarize(row) for row in results])
    return 1 if named and n_failed else 0


def check_name(text: str) -> str:
    """Return the name of a benchmark. Raises ArgumentTypeError for one that does not exist."""
    if text not in find_benchmarks():
        raise argparse.ArgumentTypeError(f"no benchmark {text!r}: choose from {', '.join(find_benchmarks())}")
    return text


def check_file(text: str) -> Path:
    """Return the path of a new file. Raises ArgumentTypeError for one that can't be written after all the work."""
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a file in an existing folder")
    return path


def describe_default(value: Any) -> str:
    """Return what the help adds to the name of a benchmark: nothing for an option without a default."""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return "" if value in (None, "") else f" (default: {value})"


def make_parser(names: Sequence[str]) -> argparse.ArgumentParser:
    """Make a parser with the options of these benchmarks, or of all."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="*", type=check_name, metavar="NAME", help="see --list")
    parser.add_argument("--list", action="store_true", help="print each benchmark with its claim, and exit")
    parser.add_argument(
        "--json", type=check_file, metavar="FILE", help="write the results with machine, date and commit"
    )
    options: dict[str, list[tuple[str, inspect.Parameter]]] = {}
    for name in names or find_benchmarks():
        with contextlib.suppress(UserError):  # raised again, and reported, when the benchmark's turn comes
            for parameter in inspect.signature(load_benchmark(name)).parameters.values():
                options.setdefault(parameter.name, []).append((name, parameter))
    for option, users in options.items():
        annotation = str(users[0][1].annotation)
        parser.add_argument(
            f"--{option.replace('_', '-')}",
            type=PARSERS[annotation],
            default=argparse.SUPPRESS,
            metavar="A,B" if annotation.startswith("tuple") else annotation.partition(" ")[0].upper(),
            help="for " + ", ".join(name + describe_default(parameter.default) for name, parameter in users),
        )
    return parser


def run_benchmark(name: str, options: Mapping[str, Any]) -> Result | None:
    """Run one benchmark with those of the options that it has."""
    run = load_benchmark(name)
    return run(**{key: value for key, value in options.items() if key in inspect.signature(run).parameters})


def describe_run() -> dict[str, Any]:
    """Return the machine, the date and the commit of this run."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpuinfo = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.is_file() else []
    git = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {
        "machine": f"{models[0] if models else platform.machine()}, {cores} cores, {platform.system()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit or None,
    }


def show(name: str, result: Result) -> None:
    """Print one result, with its further measurements."""
    print(f"{name}: {result.work}")
    print(f"  ours  {format_value(result.ours):>12} {result.unit}")
    if result.peer is not None:
        print(f"  peer  {format_value(result.peer):>12} {result.unit}   {result.peer_name}")
        print(f"  ratio {format_value(result.ratio):>12}")
    if result.details:
        print_rows(result.details)
    sys.stdout.flush()


def summarize(row: Mapping[str, Any]) -> Row:
    """Return one line of the table that ends a run of several benchmarks."""
    return {"benchmark": row["name"], **{key: row[key] for key in ("ours", "peer", "unit", "ratio", "peer_name")}}


if __name__ == "__main__":
    sys.exit(main())

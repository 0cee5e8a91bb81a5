"""python -m pipeline.sweep.compare SECTION.KEY=VALUE … [--stage STAGE]: run the pipeline with other values elsewhere, and compare.

In: the workspace, read-only, and values, which are checked before anything starts. Out: below var/trials/KEY (one folder per set of
values) a copy of the workspace's inputs and code, in which DVC runs the stages up to STAGE with the workspace's cache, so that
only what the values change is computed; and a table of its metrics beside the workspace's. params.yaml, data/ and Git stay as they
are.
Exit codes: 0 success, 1 user error or a stage that failed, 2 usage error, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from ruamel.yaml import YAML, YAMLError

from pipeline.frame.errors import UserError
from pipeline.frame.locks import try_lock
from pipeline.frame.settings import read_yaml
from pipeline.params import STAGES, check_params
from pipeline.sweep.space import set_values

TRIALS = Path("var/trials")
CODE = ("pipeline", "model")  # what stages import; dvc.yaml lists the rooms that change their outputs
GRAPH = ("dvc.yaml", ".dvcignore")
RESULTS = ("dvc.lock", "data/metrics")  # copied once: a trial has its own from then on
SUMMARY = "data/evaluate/summary.json"
IGNORED = shutil.ignore_patterns("__pycache__")


def main(argv: list[str] | None = None) -> int:
    """Run one trial and print the comparison; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.sweep.compare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("values", nargs="+", metavar="SECTION.KEY=VALUE", help="e.g. filter.gopher_quality.min_words=8")
    parser.add_argument("--stage", choices=STAGES, default="evaluate", help="the last stage to run (default: evaluate)")
    args = parser.parse_args(argv)
    try:
        return compare(Path.cwd(), parse_values(args.values), args.stage)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("compare: interrupted; the same command resumes", file=sys.stderr)
        return 130


def parse_values(words: Sequence[str]) -> dict[str, Any]:
    """Return the values by dotted name; values are YAML, as in params.yaml. Raises `UserError` for what is no assignment."""
    values: dict[str, Any] = {}
    for word in words:
        name, is_set, text = word.partition("=")
        if not is_set or not all(part.isidentifier() for part in name.split(".")):
            raise UserError(
                f"{word}: not a value", "no SECTION.KEY=VALUE", "write e.g. filter.gopher_quality.min_words=8"
            )
        try:
            values[name] = YAML(typ="safe", pure=True).load(text)
        except YAMLError as error:
            raise UserError(f"{name}: not valid YAML", text, "quote it for the shell and for YAML") from error
    return values


def compare(root: Path, values: Mapping[str, Any], stage: str) -> int:
    """Run the stages up to `stage` with these values in a copy of the workspace, and print both results.

    Raises `UserError` for values that params.yaml could not have.
    """
    params = set_values(read_yaml(root / "params.yaml"), values)
    check_params(params, "compare")
    key = hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()[:12]
    trial = root / TRIALS / key
    trial.mkdir(parents=True, exist_ok=True)
    with try_lock(trial.with_suffix(".lock"), f"{TRIALS / key}: this trial is running"):
        copy_workspace(root, trial)
        with (trial / "params.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe", pure=True).dump(params, file)
        print(f"compare: running in {TRIALS / key}", flush=True)
        _run_dvc(trial, "checkout", "--quiet", "--force", "--allow-missing", is_quiet=True)
        if code := _run_dvc(trial, "repro", stage):
            print(
                f"error: the trial failed\n  found: the messages above, and {trial}\n  to do: try other values",
                file=sys.stderr,
            )
            return min(code, 1)
    print_comparison(root, trial, stage)
    return 0


def copy_workspace(root: Path, trial: Path) -> None:
    """Copy what stages read and no stage writes: code, your texts, takedowns, the graph. Large files become hard links."""
    (trial / ".dvc").mkdir(exist_ok=True)
    cache = subprocess.run(
        [sys.executable, "-m", "dvc", "cache", "dir"], cwd=root, capture_output=True, text=True, check=False
    )
    folder = (root / (cache.stdout.strip() or ".dvc/cache")).resolve()
    config = (
        f"[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n[cache]\n    dir = {folder}\n"
    )
    (trial / ".dvc/config").write_text(config + '    type = "hardlink,symlink,copy"\n', encoding="utf-8")
    results = () if (trial / RESULTS[0]).exists() else RESULTS
    for name in (*_list_inputs(root), *results):
        source, target = root / name, trial / name
        if target.is_dir():
            shutil.rmtree(target)
        if source.is_dir():
            shutil.copytree(source, target, ignore=IGNORED, copy_function=_link_or_copy)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _list_inputs(root: Path) -> Iterator[str]:
    """Yield what a copy of the workspace needs: inputs that no stage writes, unless they are in a folder that is listed too."""
    stages: dict[str, Any] = read_yaml(root / "dvc.yaml")["stages"]
    outs = {out if isinstance(out, str) else next(iter(out)) for stage in stages.values() for out in stage["outs"]}
    deps = {dep for stage in stages.values() for dep in stage["deps"]}
    inputs = {dep for dep in deps if not any(dep == out or dep.startswith(f"{out}/") for out in outs)}
    yield from CODE
    yield from (name for name in sorted(inputs) if not name.startswith(tuple(f"{code}/" for code in CODE)))
    yield from GRAPH


def _link_or_copy(source: str, target: str) -> None:
    """Link a file of the workspace's data; copy code, which an editor may change in place."""
    if not source.endswith(".py"):
        try:
            os.link(os.path.realpath(source), target)
        except OSError:  # another file system
            pass
        else:
            return
    shutil.copy2(source, target)


def _run_dvc(trial: Path, *arguments: str, is_quiet: bool = False) -> int:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    output = subprocess.DEVNULL if is_quiet else None
    command = [sys.executable, "-m", "dvc", *arguments]
    process = subprocess.run(
        command, cwd=trial, env={**os.environ, "PATH": path}, stdout=output, stderr=output, check=False
    )
    return process.returncode


def print_comparison(root: Path, trial: Path, stage: str) -> None:
    """Print what the last stage measured here and there: for evaluate the metrics that people compare, else all that differ."""
    name = SUMMARY if stage == "evaluate" else f"data/metrics/{stage}.json"
    here, there = (_read_metrics(folder / name) for folder in (root, trial))
    table = Table(box=box.SIMPLE)
    for header in ("metric", "here", "trial", "change"):
        table.add_column(header, justify="left" if header == "metric" else "right")
    for metric in dict.fromkeys([*here, *there]):
        ours, other = here.get(metric), there.get(metric)
        if stage == "evaluate" or ours != other:
            change = "" if ours is None or other is None else f"{other - ours:+.4g}"
            table.add_row(metric, *("–" if value is None else f"{value:.6g}" for value in (ours, other)), change)
    console = Console(highlight=False)
    console.print(table)
    if not here:
        console.print(f"this workspace has no {name}: `make run` first, then compare again", soft_wrap=True)


def _read_metrics(path: Path) -> dict[str, float]:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main())

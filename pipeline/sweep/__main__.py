"""python -m pipeline.sweep SPACE.yaml [--name NAME] [--jobs N]: search for better pretraining settings in short runs.

In: a search space (such as docs/sweep.yaml), params.yaml, and the shards and tokenizer of a finished run, all read-only. Each trial
is the pretrain stage in its own process. Out: a table, the command that runs the best trial in full, and below var/sweep: NAME.db,
Optuna's storage (a killed sweep resumes, a finished one accepts more trials), NAME/trials.csv and trials.json, and the params, log,
metrics and curve of each trial. On a CPU the same space, seed and --jobs give the same trials. Time: trials x one trial / jobs.
Exit codes: 0 success, 1 user error or no trial that completed, 2 usage error, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from pipeline.frame.errors import UserError
from pipeline.frame.locks import try_lock
from pipeline.frame.settings import read_yaml
from pipeline.params import check_params
from pipeline.sweep.space import (
    Choice,
    Sweep,
    Values,
    check_sweep,
    count_trials,
    find_baseline,
    load_sweep,
    make_grid,
    round_values,
    set_values,
)
from pipeline.sweep.trial import Outcome, Trial
from pipeline.workers.map import count_workers

if TYPE_CHECKING:
    from pipeline.sweep.study import Study, TrialRow

SWEEPS = Path("var") / "sweep"
POLL_SECONDS = 0.5
METRIC = "heldout_bpb"
KEPT = ("train_seconds", "tokens", "n_params", "tokens_per_second")  # of a trial's metrics and timings


def main(argv: list[str] | None = None) -> int:
    """Start or resume a sweep and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", type=Path, metavar="SPACE.yaml", help="search space and budget of a trial")
    parser.add_argument("--name", help="name of the study below var/sweep (default: that of the file)")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="parallel trials, which share the cores (default: 1)"
    )
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="settings (default: params.yaml)"
    )
    for name, folder in (("shards", "data/shard"), ("tokenizer", "data/train_tokenizer")):
        parser.add_argument(
            f"--{name}", type=Path, default=Path(folder), metavar="FOLDER", help=f"input (default: {folder})"
        )
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # SystemExit unwinds the stack, so that the trials are terminated
    try:
        return _sweep(args)
    except KeyboardInterrupt:
        print("sweep: interrupted; run it again to resume", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _sweep(args: argparse.Namespace) -> int:
    """Run the sweep, write its results and print them. Return the exit code."""
    sweep, values = load_sweep(args.space), read_yaml(args.params)
    check_params(values, str(args.params))
    check_sweep(sweep, values, args.params)
    shards, tokenizer = _require(args.shards, "shards"), _require(args.tokenizer, "tokenizer")
    manifest = json.loads(_require(args.shards / "manifest.json", "shards").read_text(encoding="utf-8"))
    values = set_values(values, sweep.set)
    folder = SWEEPS / (args.name or args.space.stem)
    first = find_baseline(sweep, values) if sweep.use_baseline else None
    if sweep.use_baseline and first is None:
        print("sweep: the space does not contain the values of params.yaml, so no trial uses them", flush=True)
    n_workers = max(count_workers() // args.jobs, 1)

    def start(trial: Trial, changed: Values) -> None:
        trial.start(set_values(values, changed), shards, tokenizer, n_workers)

    lock, do = folder.with_name(f"{folder.name}.lock"), "wait for it, or give another --name"
    held_lock = try_lock(lock, f"sweep: {folder} is in use by another sweep", do)
    with held_lock, _open_study(folder, sweep, first, [values["pretrain"], manifest]) as study:
        run_trials(study, folder, start, args.jobs)
        rows = study.list_rows()
    write_rows(folder, rows)
    console = Console()
    width = 50 + 12 * len(sweep.space)  # output to a file is not wrapped
    print_trials(console if console.is_terminal else Console(width=max(console.width, width)), sweep, rows, first)
    print(f"wrote {folder / 'trials.csv'}; the log and curve of each trial are in its folder there")
    return 0 if rows and rows[0].state == "complete" else 1


def _require(path: Path, flag: str) -> Path:
    """Return the absolute path. Raises: `UserError` if it does not exist."""
    if not path.exists():
        raise UserError(f"sweep: --{flag} is missing", f"no {path}", "run the pipeline up to shard (dvc repro shard)")
    return path.resolve()


def _open_study(folder: Path, sweep: Sweep, first: Values | None, about: Sequence[Any]) -> Study:
    """Open or create the study. Raises: `UserError` if Optuna is missing."""
    try:
        from pipeline.sweep.study import Study, compute_fingerprint
    except ImportError as error:
        raise UserError("sweep: Optuna is missing", str(error), 'pip install ".[sweep]"') from error
    path = folder.with_name(f"{folder.name}.db")
    if not path.exists():
        shutil.rmtree(folder, ignore_errors=True)  # trials of a deleted study
    folder.mkdir(parents=True, exist_ok=True)
    start = make_grid(sweep) if sweep.sampler == "grid" else [first] if first else []
    return Study(path, sweep, compute_fingerprint(sweep.model_dump(mode="json", exclude={"trials"}), *about), start)


def run_trials(study: Study, folder: Path, start: Callable[[Trial, Values], None], jobs: int) -> None:
    """Run all trials in rounds of `jobs`. A round is proposed after the results of the previous one are stored, so that neither
    proposals nor pruning depend on which trial was faster. An interruption is raised after all trials have been stopped."""
    n_trials = count_trials(study.sweep)
    while proposed := study.propose(jobs):
        for at in range(0, len(proposed), jobs):  # a killed sweep with more jobs may have left more trials
            _run_round(study, folder, start, dict(proposed[at : at + jobs]))
        best = study.list_rows()[0]
        n_finished = sum(row.state != "running" for row in study.list_rows())
        suffix = f", best {best.bpb:.4f} (trial {best.number})" if best.state == "complete" else ""
        print(f"sweep: {n_finished}/{n_trials} trials{suffix}", flush=True)


def _run_round(
    study: Study, folder: Path, start: Callable[[Trial, Values], None], proposed: Mapping[int, Values]
) -> None:
    """Run these trials at once, stop those that fall behind, and store all results in the order of the proposals."""
    trials = {number: Trial(folder / f"trial-{number:04d}") for number in proposed}
    ended: dict[int, tuple[int | None, Outcome]] = {}  # number → (step at which it fell behind, outcome)
    try:
        for number, values in proposed.items():
            start(trials[number], values)
        while True:
            for number in trials.keys() - ended.keys():
                trial = trials[number]
                is_over = not trial.is_running()  # checked before reading, so that the last points are not missed
                # The last point never prunes: after it the trial is complete, however late the sweep notices.
                behind = study.find_step_behind(number, trial.read_curve()[:-1])
                if behind is not None:
                    trial.stop()
                if behind is not None or is_over:
                    ended[number] = behind, trial.collect_outcome()
            if len(ended) == len(trials):
                break
            time.sleep(POLL_SECONDS)
    finally:
        for trial in trials.values():
            trial.stop()
    for number, values in proposed.items():
        _tell(study, number, values, *ended[number])


def _tell(study: Study, number: int, values: Values, behind: int | None, outcome: Outcome) -> None:
    """Store the result of a trial in the study and print it."""
    if behind is not None:
        study.prune(number, {"why": f"behind the median at step {behind}"})
        result = f"pruned at step {behind}, behind the median"
    elif outcome.metrics is None:
        study.fail(number, {"why": outcome.why})
        result = f"failed: {outcome.why}"
    else:
        values_by_name = {**outcome.metrics, **outcome.timings}
        about = {name: values_by_name[name] for name in KEPT if name in values_by_name}
        study.complete(number, outcome.metrics[METRIC], about)
        result = f"{outcome.metrics[METRIC]:.4f} bits per byte"
    settings = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in values.items())
    print(f"sweep: trial {number} ({settings}): {result}", flush=True)


def write_rows(folder: Path, rows: Sequence[TrialRow]) -> None:
    """Write trials.csv and trials.json, best trial first."""
    flat = [{"trial": row.number, "state": row.state, METRIC: row.bpb, **row.values, **row.about} for row in rows]
    (folder / "trials.json").write_text(json.dumps(flat, indent=2) + "\n", encoding="utf-8")
    with (folder / "trials.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in flat for name in row)))
        writer.writeheader()
        writer.writerows(flat)


def print_trials(console: Console, sweep: Sweep, rows: Sequence[TrialRow], first: Mapping[str, Choice] | None) -> None:
    """Print the table of trials and the command that runs the best one in full."""
    complete = [row for row in rows if row.state == "complete"]
    at_start = next((row for row in complete if first and row.values == round_values(first)), None)
    start = at_start.bpb if at_start else None
    table = Table(title="Held-out bits per byte of short runs (lower is better)", box=box.SIMPLE)
    names = [name.rpartition(".")[2].replace("_", "\n") for name in sweep.space]  # numbers are narrow
    for name in ("trial", "bits per\nbyte", "change ", *names, "seconds", "state"):
        table.add_column(name, justify="right", overflow="fold", min_width=max(map(len, name.split("\n"))))
    for row in rows:
        bpb = "–" if row.bpb is None else f"{row.bpb:.4f}"
        change = f"{row.bpb - start:+.4f}" if row in complete and row.bpb is not None and start is not None else ""
        seconds = f"{row.about['train_seconds']:.0f}" if "train_seconds" in row.about else ""
        state = "params" if row is at_start else "" if row in complete else row.state
        table.add_row(
            str(row.number), bpb, change, *(str(row.values.get(name)) for name in sweep.space), seconds, state
        )
    console.print(table)
    for state in ("pruned", "failed"):
        unsuccessful = [row for row in rows if row.state == state]
        if unsuccessful:
            verb = "were pruned" if state == "pruned" else "failed"
            console.print(f"{len(unsuccessful)} of {len(rows)} trials {verb}:", highlight=False)
        for row in unsuccessful:
            console.print(f"  {row.number}: {row.about.get('why', '')}", markup=False, highlight=False, soft_wrap=True)
    if complete:
        print(f"\nto run the best trial in full:\n  {format_command(complete[0].values)}")


def format_command(values: Values) -> str:
    """Return the command that trains with these values and the budget of params.yaml."""
    words = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    return "python -m pipeline.sweep.compare " + " ".join(shlex.quote(word) for word in words)


if __name__ == "__main__":
    sys.exit(main())

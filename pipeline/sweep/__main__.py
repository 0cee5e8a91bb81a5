"""python -m pipeline.sweep SPACE.yaml [--name NAME] [--jobs N]: search better settings of pretraining by short runs.

In: a search space (docs/sweep.yaml is one), params.yaml, and the shards and the tokenizer of a finished run; all of them are only
read. Each trial is the pretrain stage in a process of its own. Out: a table, the command that runs the best one in full, and below
var/sweep: NAME.db, Optuna's storage (a sweep that was killed resumes, and one that is done takes more trials), NAME/trials.csv and
trials.json, and each trial's params, log, metrics and curve. On a CPU the same space, seed and --jobs give the same trials. Time:
trials x one trial / jobs.
Exit codes: 0 success, 1 user error or no trial that completed, 2 usage, 130 Ctrl-C.
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

PLACE = Path("var") / "sweep"
POLL_SECONDS = 0.5
METRIC = "heldout_bpb"
KEPT = ("train_seconds", "tokens", "n_params", "tokens_per_second")  # of a trial's metrics and timings


def main(argv: list[str] | None = None) -> int:
    """Start or resume a sweep and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", type=Path, metavar="SPACE.yaml", help="what to vary, and the budget of a trial")
    parser.add_argument("--name", help="of the study below var/sweep (default: the file's)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trials at once; they share the cores")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
    parser.add_argument("--shards", type=Path, default=Path("data/shard"), metavar="FOLDER")
    parser.add_argument("--tokenizer", type=Path, default=Path("data/train_tokenizer"), metavar="FOLDER")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # SystemExit unwinds, so that the trials are ended
    try:
        return _sweep(args)
    except KeyboardInterrupt:
        print("sweep: interrupted; run it again to go on", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _sweep(args: argparse.Namespace) -> int:
    sweep, values = load_sweep(args.space), read_yaml(args.params)
    check_params(values, str(args.params))
    check_sweep(sweep, values, args.params)
    shards, tokenizer = _require(args.shards, "shards"), _require(args.tokenizer, "tokenizer")
    manifest = json.loads(_require(args.shards / "manifest.json", "shards").read_text(encoding="utf-8"))
    values = set_values(values, sweep.set)
    place = PLACE / (args.name or args.space.stem)
    first = find_baseline(sweep, values) if sweep.use_baseline else None
    if sweep.use_baseline and first is None:
        print("sweep: the space does not hold the values of params.yaml, so no trial has them", flush=True)
    n_workers = max(count_workers() // args.jobs, 1)

    def start(trial: Trial, changed: Values) -> None:
        trial.start(set_values(values, changed), shards, tokenizer, n_workers)

    lock, do = place.with_name(f"{place.name}.lock"), "wait for it, or give another --name"
    is_alone = try_lock(lock, f"sweep: {place} is in use by another sweep", do)
    with is_alone, _open_study(place, sweep, first, [values["pretrain"], manifest]) as study:
        run_trials(study, place, start, args.jobs)
        rows = study.list_rows()
    write_rows(place, rows)
    console = Console()
    wanted = 50 + 12 * len(sweep.space)  # a file has no edge
    print_trials(console if console.is_terminal else Console(width=max(console.width, wanted)), sweep, rows, first)
    print(f"written to {place / 'trials.csv'}; log and curve of each trial beside it")
    return 0 if rows and rows[0].state == "complete" else 1


def _require(path: Path, flag: str) -> Path:
    if not path.exists():
        raise UserError(f"sweep: --{flag} is missing", f"no {path}", "run the pipeline up to shard (dvc repro shard)")
    return path.resolve()


def _open_study(place: Path, sweep: Sweep, first: Values | None, about: Sequence[Any]) -> Study:
    try:
        from pipeline.sweep.study import Study, compute_fingerprint
    except ImportError as error:
        raise UserError("sweep: Optuna is missing", str(error), 'pip install ".[sweep]"') from error
    path = place.with_name(f"{place.name}.db")
    if not path.exists():
        shutil.rmtree(place, ignore_errors=True)  # trials of a study that was deleted
    place.mkdir(parents=True, exist_ok=True)
    start = make_grid(sweep) if sweep.sampler == "grid" else [first] if first else []
    return Study(path, sweep, compute_fingerprint(sweep.model_dump(mode="json", exclude={"trials"}), *about), start)


def run_trials(study: Study, place: Path, start: Callable[[Trial, Values], None], jobs: int) -> None:
    """Run all trials, in rounds of `jobs`. The next round is proposed after the last one is told, so that neither the proposals nor
    the trials that end early depend on which trial was faster. Raises: what interrupts it, once no trial runs any more."""
    n_trials = count_trials(study.sweep)
    while proposed := study.propose(jobs):
        for at in range(0, len(proposed), jobs):  # a sweep that ran more jobs may have left more
            _run_round(study, place, start, dict(proposed[at : at + jobs]))
        best = study.list_rows()[0]
        n_done = sum(row.state != "running" for row in study.list_rows())
        shown = f", best {best.bpb:.4f} (trial {best.number})" if best.state == "complete" else ""
        print(f"sweep: {n_done}/{n_trials} trials{shown}", flush=True)


def _run_round(
    study: Study, place: Path, start: Callable[[Trial, Values], None], proposed: Mapping[int, Values]
) -> None:
    trials = {number: Trial(place / f"trial-{number:04d}") for number in proposed}
    ended: dict[int, tuple[int | None, Outcome]] = {}  # number → the step at which it fell behind, its outcome
    try:
        for number, values in proposed.items():
            start(trials[number], values)
        while True:
            for number in trials.keys() - ended.keys():
                trial = trials[number]
                is_over = not trial.is_running()  # asked before reading: the last points are not missed
                # A point counts once another follows: after its last one a trial is complete, however late that is seen.
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
    if behind is not None:
        study.prune(number, {"why": f"behind the median at step {behind}"})
        result = f"ended at step {behind}, behind the median"
    elif outcome.metrics is None:
        study.fail(number, {"why": outcome.why})
        result = f"failed: {outcome.why}"
    else:
        known = {**outcome.metrics, **outcome.timings}
        about = {name: known[name] for name in KEPT if name in known}
        study.complete(number, outcome.metrics[METRIC], about)
        result = f"{outcome.metrics[METRIC]:.4f} bits per byte"
    shown = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in values.items())
    print(f"sweep: trial {number} ({shown}): {result}", flush=True)


def write_rows(place: Path, rows: Sequence[TrialRow]) -> None:
    """Write trials.csv and trials.json, the best first."""
    flat = [{"trial": row.number, "state": row.state, METRIC: row.bpb, **row.values, **row.about} for row in rows]
    (place / "trials.json").write_text(json.dumps(flat, indent=2) + "\n", encoding="utf-8")
    with (place / "trials.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in flat for name in row)))
        writer.writeheader()
        writer.writerows(flat)


def print_trials(console: Console, sweep: Sweep, rows: Sequence[TrialRow], first: Mapping[str, Choice] | None) -> None:
    """Print the table, and the best trial as a command."""
    complete = [row for row in rows if row.state == "complete"]
    at_start = next((row for row in complete if first and row.values == round_values(first)), None)
    start = at_start.bpb if at_start else None
    table = Table(title="Held-out bits per byte of short runs (less is better)", box=box.SIMPLE)
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
    for state, words in (("pruned", "ended early"), ("failed", "failed")):
        ended = [row for row in rows if row.state == state]
        if ended:
            console.print(f"{len(ended)} of {len(rows)} trials {words}:", highlight=False)
        for row in ended:
            console.print(f"  {row.number}: {row.about.get('why', '')}", markup=False, highlight=False, soft_wrap=True)
    if complete:
        print(f"\nthe best of them in full:\n  {format_command(complete[0].values)}")


def format_command(values: Values) -> str:
    """Return the command that runs these values with the budget of params.yaml."""
    words = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    return "dvc exp run " + " ".join(f"-S {shlex.quote(word)}" for word in words)


if __name__ == "__main__":
    sys.exit(main())

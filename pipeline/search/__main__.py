"""python -m pipeline.search SPACE.yaml [--name NAME] [--jobs N]: look for better settings of pretraining by short runs.

In: a search space (docs/search.yaml is one), params.yaml, and the shards and the tokenizer of a finished run; all of them are only
read. Each trial is the pretrain stage in a process of its own. Out: a table, the line that runs the best one in full, and below
var/search: NAME.db, which remembers (a search that was killed goes on where it stood, and one that is done takes more trials),
NAME/trials.csv and trials.json, and each trial's params, log, figures and curve. On a CPU the same space, seed and --jobs give the
same trials. Time: trials x one trial / jobs.
Exit codes: 0 good, 1 a person's error or no trial that came through, 2 usage, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from model.config import ModelConfig
from pipeline.budget import settle
from pipeline.errors import ParamError, UserError
from pipeline.frame.locks import try_lock
from pipeline.params import check_params, read_yaml
from pipeline.search.space import (
    Choice,
    Search,
    baseline,
    check_search,
    count_trials,
    grid,
    load_search,
    require,
    rounded,
    with_values,
)
from pipeline.search.trial import FIGURE, Outcome, Trial
from pipeline.workers.map import worker_count

if TYPE_CHECKING:
    from pipeline.search.study import Row, Study

PLACE = Path("var") / "search"
POLL_SECONDS = 0.5
KEPT = ("train_seconds", "tokens", "n_params", "tokens_per_second")  # of a trial's figures


def main(argv: list[str] | None = None) -> int:
    """Searches, or goes on searching; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.search", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", type=Path, metavar="SPACE.yaml", help="what to search, and the budget of a trial")
    parser.add_argument("--name", help="of the study below var/search (default: the file's)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trials at once; they share the cores")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
    parser.add_argument("--shards", type=Path, default=Path("data/shard"), metavar="FOLDER")
    parser.add_argument("--tokenizer", type=Path, default=Path("data/train_tokenizer"), metavar="FOLDER")
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _search(args)
    except KeyboardInterrupt:
        print("search: interrupted; run it again to go on", file=sys.stderr)
        return 130
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(143)  # SystemExit unwinds, so that the trials are ended


def _search(args: argparse.Namespace) -> int:
    search, values = load_search(args.space), read_yaml(args.params)
    check_params(values, str(args.params))
    check_search(search, values, args.params)
    shards, tokenizer = require(args.shards, "shards"), require(args.tokenizer, "tokenizer")
    manifest = json.loads(require(shards / "manifest.json", "shards").read_text(encoding="utf-8"))
    values = with_values(values, search.set)
    place = PLACE / (args.name or args.space.stem)
    first = baseline(search, values) if search.use_baseline else None
    if search.use_baseline and first is None:
        print("search: the values of params.yaml do not lie in the space, so no trial has them", flush=True)
    lock = place.with_name(f"{place.name}.lock")
    is_running = try_lock(lock, f"search: {place} is being searched", "wait for it, or give another --name")
    with is_running, _open_study(place, search, first, values["pretrain"], manifest) as study:
        runner = Runner(study, place, values, shards, tokenizer, manifest["vocab_size"], args.jobs)
        runner.run()
        rows = study.rows()
    write_rows(place, rows)
    console = Console()
    wanted = 50 + 12 * len(search.space)  # in a file there is no edge
    show(console if console.is_terminal else Console(width=max(console.width, wanted)), search, rows, first)
    print(f"written to {place / 'trials.csv'}; log and curve of each trial beside it")
    return 0 if rows and rows[0].state == "complete" else 1


def _open_study(
    place: Path, search: Search, first: Mapping[str, Choice] | None, base: Any, manifest: Mapping[str, Any]
) -> Study:
    try:
        from pipeline.search.study import Study, fingerprint_of
    except ImportError as error:
        raise UserError("search: Optuna is missing", str(error), 'pip install ".[search]"') from error
    path = place.with_name(f"{place.name}.db")
    if not path.exists():
        shutil.rmtree(place, ignore_errors=True)  # trials of a study that is no more
    start = grid(search) if search.sampler == "grid" else [first] if first else []
    about = fingerprint_of(search.model_dump(mode="json", exclude={"trials"}), base, manifest)
    place.mkdir(parents=True, exist_ok=True)
    return Study(path, search, about, start)


class Runner:
    """Trials in rounds of `jobs`. A round is proposed when the one before is told, so that what is proposed, and which trial
    falls behind, does not depend on which of them was faster."""

    def __init__(
        self,
        study: Study,
        place: Path,
        values: Mapping[str, Any],
        shards: Path,
        tokenizer: Path,
        vocab_size: int,
        jobs: int,
    ) -> None:
        self.study, self.place, self.values, self.jobs = study, place, values, jobs
        self.shards, self.tokenizer, self.vocab_size = shards, tokenizer, vocab_size
        self.n_workers = max(worker_count() // jobs, 1)

    def run(self) -> None:
        """Until all trials are told. Raises whatever interrupts it, once no trial runs any more."""
        n_trials = count_trials(self.study.search)
        while proposed := self.study.propose(self.jobs):
            for start in range(0, len(proposed), self.jobs):
                self._round(proposed[start : start + self.jobs])
            best = self.study.rows()[0]
            n_done = sum(row.state != "running" for row in self.study.rows())
            found = f", best {best.bpb:.4f} (trial {best.number})" if best.state == "complete" else ""
            print(f"search: {n_done}/{n_trials} trials{found}", flush=True)

    def _round(self, proposed: Sequence[tuple[int, Mapping[str, Choice]]]) -> None:
        trials: dict[int, Trial] = {}
        ended: dict[int, Outcome | int] = {}  # an int: the step at which it fell behind
        last_steps: dict[int, float] = {}
        try:
            for number, found in proposed:
                trials[number] = Trial(self.place / f"trial-{number:04d}")
                params = with_values(self.values, found)
                try:
                    last_steps[number] = self._last_step(params)
                except ParamError as error:
                    ended[number] = Outcome(None, f"{error.what}: {error.do}")
                    continue
                trials[number].start(params, self.shards, self.tokenizer, self.n_workers)
            while len(ended) < len(trials):
                for number in trials.keys() - ended.keys():
                    is_over = not trials[number].is_running()  # asked before reading: the last points are not missed
                    result = self._look(number, trials[number], last_steps[number], is_over=is_over)
                    if result is not None:
                        ended[number] = result
                if len(ended) < len(trials):
                    time.sleep(POLL_SECONDS)
        finally:
            for trial in trials.values():
                trial.stop()
        for number, found in proposed:
            self._tell(number, found, ended[number])

    def _last_step(self, params: Mapping[str, Any]) -> float:
        """How many steps the trial will take. Raises: `ParamError`."""
        section = check_params(params, "this trial").pretrain
        try:
            config = ModelConfig(vocab_size=self.vocab_size, **section.model.model_dump())
            return settle(section, config).total_steps
        except ValueError:
            return math.inf  # the trial itself will say what is wrong

    def _look(self, number: int, trial: Trial, last_step: float, *, is_over: bool) -> Outcome | int | None:
        behind = self.study.falls_behind(number, [point for point in trial.curve() if point[0] < last_step])
        if behind is not None:
            trial.stop()
        outcome = trial.outcome() if is_over or behind is not None else None
        return behind if behind is not None else outcome

    def _tell(self, number: int, values: Mapping[str, Choice], result: Outcome | int) -> None:
        shown = ", ".join(f"{short_name(name)}={value}" for name, value in values.items())
        if isinstance(result, int):
            self.study.prune(number, {"why": f"behind the median at step {result}"})
            said = f"ended at step {result}, behind the median"
        elif result.metrics is None:
            self.study.fail(number, {"why": result.why})
            said = f"failed: {result.why}"
        else:
            about = {name: result.metrics[name] for name in KEPT if name in result.metrics}
            self.study.complete(number, result.metrics[FIGURE], about)
            said = f"{result.metrics[FIGURE]:.4f} bits per byte"
        print(f"search: trial {number} ({shown}): {said}", flush=True)


def short_name(name: str) -> str:
    return name.rpartition(".")[2]


def write_rows(place: Path, rows: Sequence[Row]) -> None:
    """trials.csv and trials.json, the best first."""
    flat = [
        {"trial": row.number, "state": row.state, "heldout_bpb": row.bpb, **row.values, **row.about} for row in rows
    ]
    (place / "trials.json").write_text(json.dumps(flat, indent=2) + "\n", encoding="utf-8")
    with (place / "trials.csv").open("w", encoding="utf-8", newline="") as file:
        names = list(dict.fromkeys(name for row in flat for name in row))
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(flat)


def show(console: Console, search: Search, rows: Sequence[Row], first: Mapping[str, Choice] | None) -> None:
    """The table, and the best as a command."""
    start = next((row.bpb for row in rows if first and row.values == rounded(first) and row.state == "complete"), None)
    table = Table(title="Held-out bits per byte of short runs (less is better)", box=box.SIMPLE)
    names = [short_name(name).replace("_", "\n") for name in search.space]  # numbers are narrow
    for name in ("trial", "bits per\nbyte", *(["change "] if start else []), *names, "seconds", "state"):
        table.add_column(name, justify="right", overflow="fold", min_width=max(map(len, name.split("\n"))))
    for row in rows:
        figure = "–" if row.bpb is None else f"{row.bpb:.4f}"
        change = f"{row.bpb - start:+.4f}" if row.bpb is not None and start and row.state == "complete" else ""
        is_first = bool(first) and row.values == rounded(first or {})
        seconds = f"{row.about['train_seconds']:.0f}" if "train_seconds" in row.about else ""
        cells = [str(row.values.get(name)) for name in search.space]
        state = "params" if is_first and row.state == "complete" else "" if row.state == "complete" else row.state
        table.add_row(str(row.number), figure, *([change] if start else []), *cells, seconds, state)
    console.print(table)
    for state, words in (("pruned", "ended early"), ("failed", "failed")):
        found = [row for row in rows if row.state == state]
        if found:
            console.print(f"{len(found)} of {len(rows)} trials {words}:", highlight=False)
        for row in found:
            console.print(f"  {row.number}: {row.about.get('why', '')}", markup=False, highlight=False, soft_wrap=True)
    if rows and rows[0].state == "complete":
        print(f"\nthe best of them in full:\n  {command(rows[0].values)}")


def command(values: Mapping[str, Choice]) -> str:
    """The line that runs these values with the budget of params.yaml."""
    words = [f"{name}={json.dumps(value)}" for name, value in values.items()]
    return "dvc exp run " + " ".join(f"-S {shlex.quote(word)}" for word in words)


if __name__ == "__main__":
    sys.exit(main())

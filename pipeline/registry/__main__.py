"""python -m pipeline.registry publish | gate | promote | rollback | pull | seal | attach | list | compare | fetch | noise.

In: the finished pipeline in this folder (dvc.lock and the files that it names). Out: one MLflow run and one version of the model
`minigpt` per fingerprint of model, index, evaluation and params; the aliases candidate, champion and previous; the champion's
model and index in var/champion.
The store is MLFLOW_TRACKING_URI, or else var/mlflow.db with its files in var/mlartifacts. Commands run one at a time (a file lock).
Exit codes: 0 success, 1 user error, 2 usage, 3 refused by the gate, 75 store busy, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.frame.errors import UserError
from pipeline.frame.metrics import write_json
from pipeline.params import load_params
from pipeline.registry.base_model import fetch_model
from pipeline.registry.champion import LINK
from pipeline.registry.listing import (
    list_rows,
    make_console,
    make_decision_rows,
    make_spread_table,
    make_version_table,
    print_verdict_table,
)
from pipeline.registry.paired.contrast import contrast, read_side
from pipeline.registry.paired.item_table import FIGURES, read_titles
from pipeline.registry.paired.seed_noise import format_noise, measure_spread, read_run
from pipeline.registry.promotion import NAME, judge_version, promote, pull, rollback
from pipeline.registry.publish import EVALUATION, publish, seal, write_decision, write_gate_report
from pipeline.registry.red_team import attach_red_team
from pipeline.registry.store import MlflowStore, explain_failure, open_store
from pipeline.report.two_versions import COMPARISON_FILES, write_comparison_page

REFUSED, BUSY, INTERRUPTED = 3, 75, 130

Outcome = dict[str, Any]


def _publish(store: MlflowStore, _args: argparse.Namespace) -> tuple[int, Outcome]:
    published = publish(store)
    message = "published" if published.is_new else "published before, with the same model, evaluation and params"
    print(f"version {published.version} of {NAME}: {message}", flush=True)
    return 0, published._asdict()


def _gate(store: MlflowStore, args: argparse.Namespace) -> tuple[int, Outcome]:
    current = store.read_aliases().get("champion")
    number, verdict = judge_version(store, load_params(store.root / "params.yaml").registry, args.version)
    write_gate_report(store, number, current, verdict)
    rows = make_decision_rows(verdict, read_titles(store.root / EVALUATION / FIGURES))
    write_decision(store, number, rows, verdict)
    if rows:
        print_verdict_table(make_console(), rows)
    print(f"version {number} {'passed' if verdict.is_passed else 'REFUSED'}: {verdict.reason}", flush=True)
    outcome = {"version": number, "is_passed": verdict.is_passed, "outcome": verdict.outcome, "reason": verdict.reason}
    return 0 if verdict.is_passed else REFUSED, outcome


def _promote(store: MlflowStore, args: argparse.Namespace) -> tuple[int, Outcome]:
    number, message = promote(store, args.version, args.force)
    print(f"{message}; its folder: {LINK}", flush=True)
    return 0, {"version": number, "message": message}


def _rollback(store: MlflowStore, _args: argparse.Namespace) -> tuple[int, Outcome]:
    message = rollback(store)
    print(message, flush=True)
    return 0, {"message": message}


def _pull(store: MlflowStore, args: argparse.Namespace) -> tuple[int, Outcome]:
    number, folder = pull(store, args.version or args.alias, args.to)
    print(f"version {number} of {NAME} is in {folder}", flush=True)
    return 0, {"version": number, "folder": str(folder)}


def _seal(store: MlflowStore, args: argparse.Namespace) -> tuple[int, Outcome]:
    digest = seal(store, args.version)
    print(f"version {args.version} of {NAME} now records its files: SHA-256 {digest}", flush=True)
    return 0, {"version": args.version, "digest": digest}


def _attach(store: MlflowStore, args: argparse.Namespace) -> tuple[int, Outcome]:
    aliases = store.read_aliases()
    number = args.version or aliases.get("candidate") or aliases.get("champion") or "(none)"
    metrics = attach_red_team(store, number, args.report)
    print(f"version {number} of {NAME} has {len(metrics)} metrics of the red team now", flush=True)
    return 0, {"version": number, "metrics": metrics}


def _list(store: MlflowStore, _args: argparse.Namespace) -> tuple[int, Outcome]:
    rows = list_rows(store, list(load_params(store.root / "params.yaml").registry.get_tolerances()))
    if rows:
        make_console().print(make_version_table(rows))
    else:
        print("no versions yet: `make run` creates one")
    return 0, {"versions": [row.number for row in rows], "aliases": store.read_aliases()}


def _measure_noise(args: argparse.Namespace) -> Outcome:
    """Print the spread of runs that differ in their seed only. It needs no store."""
    policy = load_params(Path.cwd() / "params.yaml").registry
    runs = [read_run(folder) for folder in args.runs]
    spreads = measure_spread(runs, [*policy.goals, "bpb", *policy.get_tolerances()])
    make_console().print(make_spread_table(spreads))
    print(f"For the section registry of params.yaml:\n\n{format_noise(spreads, len(runs))}", flush=True)
    return {"n_seeds": len(runs), "sd": {spread.metric: spread.sd for spread in spreads}}


def _compare(args: argparse.Namespace) -> Outcome:
    """Write the page that compares two versions, and print the decision table. It opens the store only for a version."""
    root = Path.cwd()
    policy = load_params(root / "params.yaml").registry
    before, after = (read_side(name, lambda: open_store(root)) for name in (args.before, args.after))
    facts = contrast(policy, before, after)
    write_comparison_page(args.out, facts)
    print_verdict_table(make_console(), facts.decision, ("before", "after"))
    print(f"{facts.before} → {facts.after}: {facts.reason}", flush=True)
    print(f"{len(facts.lost)} items wrong that were right, {len(facts.gained)} right that were wrong", flush=True)
    print(f"comparison: {', '.join(str(args.out / name) for name in COMPARISON_FILES)}", flush=True)
    return {"verdicts": {row.metric: row.verdict for row in facts.decision}, "reason": facts.reason}


def _fetch(args: argparse.Namespace) -> Outcome:
    """Write a model folder. It opens the store only for a version."""
    fetched = fetch_model(args.source, args.out, lambda: open_store(Path.cwd()))
    print(f"{fetched} is in {args.out}", flush=True)
    return {"source": args.source, "fetched": fetched}


WITHOUT_STORE: dict[str, Callable[[argparse.Namespace], Outcome]] = {
    "noise": _measure_noise,
    "compare": _compare,
    "fetch": _fetch,
}
COMMANDS: dict[str, Callable[[MlflowStore, argparse.Namespace], tuple[int, Outcome]]] = {
    "publish": _publish,
    "gate": _gate,
    "promote": _promote,
    "rollback": _rollback,
    "pull": _pull,
    "seal": _seal,
    "attach": _attach,
    "list": _list,
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their flags."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipeline.registry", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--json", type=Path, metavar="FILE", help="also write the outcome to this file")
        return command

    add("publish", "publish the finished pipeline as a version, unless an identical one exists")
    command = add("gate", "compare a version with the champion; exit code 3 if it is refused")
    command.add_argument("--version", metavar="N", help="default: the candidate")
    command = add("promote", "make a version that passed the gate the champion, and pull it")
    command.add_argument("--version", metavar="N", help="default: the candidate")
    command.add_argument("--force", default="", metavar="REASON", help="override the gate; the reason is kept as a tag")
    add("rollback", "make the previous champion the champion again, and pull it")
    command = add("pull", "download the champion into var/champion, or any version into a folder")
    command.add_argument(
        "--alias", default="champion", choices=("champion", "candidate", "previous"), help="default: champion"
    )
    command.add_argument("--version", metavar="N", help="a version number instead of an alias")
    command.add_argument("--to", type=Path, metavar="FOLDER", help="default: var/champion")
    command = add("seal", "record the SHA-256 of the files of a version that was published before versions recorded it")
    command.add_argument("--version", metavar="N", required=True, help="a version whose files nobody else could change")
    command = add("attach", "add the metrics of a red-team run to a version, for registry.at_most (docs/guard.md)")
    command.add_argument("report", type=Path, metavar="FILE", help="redteam.json of python -m service red-team --model")
    command.add_argument("--version", metavar="N", help="default: the candidate, else the champion")
    add("list", "list all versions, newest first")
    command = add("compare", "compare two versions in one page: metrics, items that changed, settings, data")
    text = "root of a finished pipeline, models:/minigpt/N or models:/minigpt@ALIAS"
    command.add_argument("before", metavar="A", help=text)
    command.add_argument("after", metavar="B", help="the same; it is judged against A")
    command.add_argument("--out", type=Path, default=Path("var"), metavar="FOLDER", help="default: var")
    command = add("fetch", "write the model of a version into a folder: the base of a task recipe")
    text = "models:/minigpt/N, models:/minigpt@ALIAS or a model folder"
    command.add_argument("source", metavar="SOURCE", help=text)
    command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="replaced if fetch has written it")
    command = add("noise", "measure how much runs differ that differ in their seed only, for registry.noise")
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder with data/metrics/evaluate.json")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    args = make_parser().parse_args(argv)
    try:
        if args.command in WITHOUT_STORE:
            code, outcome = 0, WITHOUT_STORE[args.command](args)
        else:
            with open_store(Path.cwd()) as store:
                code, outcome = COMMANDS[args.command](store, args)
        if args.json is not None:
            write_json(args.json, outcome)
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{args.command}: interrupted; it can be run again", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        failure = explain_failure(args.command, error)
        if failure is None:
            raise
        print(f"error: {failure}", file=sys.stderr)
        return BUSY if "database is locked" in str(error) else 1


if __name__ == "__main__":
    sys.exit(main())

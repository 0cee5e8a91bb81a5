"""python -m pipeline.ledger why | diff | takedown | replay: query the decisions on documents, and take documents down.

In: the folders that the stages wrote (located by dvc.yaml, or `--data FOLDER` with one folder per stage), Git, DVC's cache and the
registry. Out: an answer on the terminal; only `takedown` writes, and only data/takedowns.jsonl.
Exit codes: 0 success, 1 user error, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path

from polars.exceptions import ColumnNotFoundError, ComputeError

from pipeline.download.tombstones import Tombstone, make_tombstone
from pipeline.frame.environment import read_flag
from pipeline.frame.errors import UserError
from pipeline.ledger import feedback_life, show, takedown
from pipeline.ledger.diff import compare_snapshots
from pipeline.ledger.find import read_titles
from pipeline.ledger.places import DataSnapshot, DvcCache, find_stage_folders
from pipeline.ledger.replay import replay_thresholds
from pipeline.ledger.states import WORKSPACE, open_state
from pipeline.ledger.versions import RegisteredVersions
from pipeline.ledger.why import explain

DATA = Path("data")  # where the stages' folders are


def _why(args: argparse.Namespace) -> None:
    root = Path.cwd()
    stones = takedown.read_stones(args.takedowns)
    if feedback_life.is_feedback(args.query):
        print(feedback_life.explain_feedback(args.query, args.data or DATA, stones))
        return
    print(explain(_get_workspace(args), args.query, stones, RegisteredVersions(root, DvcCache(root)), args.takedowns))


def _diff(args: argparse.Namespace) -> None:
    root = Path.cwd()
    registry, workspace = RegisteredVersions(root, DvcCache(root)), _get_workspace(args)
    with ExitStack() as stack:
        a, b = (stack.enter_context(open_state(name, workspace, registry)) for name in (args.before, args.after))
        diff = compare_snapshots(a, b)
    if args.json:
        show.show_json(show.make_diff_json(diff, args.list))
    else:
        show.show_diff(diff, args.list)


def _takedown(args: argparse.Namespace) -> None:
    root = Path.cwd()
    registry, data = RegisteredVersions(root, DvcCache(root)), _get_workspace(args)
    if args.list:
        rows, sights = takedown.list_takedowns(data, takedown.read_stones(args.takedowns), registry)
        if args.json:
            show.show_json(show.make_takedowns_json(rows, sights))
        else:
            show.show_takedowns(rows, sights, registry.note)
        return
    given = [each for each in args.id if feedback_life.is_feedback(each)]
    if given:
        _take_down_feedback(args, given)
        args.id = [each for each in args.id if each not in given]
        if not (args.id or args.url or args.domain or args.license or args.file):
            return
    stones = _make_tombstones(args, data)
    if not stones:
        raise UserError("takedown: nothing to take down", "no id and no flag", "give an id, --url, --domain, --license")
    if any(not stone.reason for stone in stones):
        raise UserError("takedown: no reason", "no --reason", "give one; it is kept in the file and in Git")
    existing = takedown.read_stones(args.takedowns)
    plan = takedown.plan_takedown(data, stones, registry, existing, with_duplicates=args.with_duplicates)
    if not args.allow_unmatched:
        takedown.check_matched(plan)
    n_new = takedown.write_stones(args.takedowns, takedown.add_text_hashes(data.collected, plan.stones))
    printed = takedown.update_collections(args.takedowns)
    if args.json:
        show.show_json(show.make_plan_json(plan, n_new))
    else:
        show.show_plan(plan, n_new, str(args.takedowns), registry.note)
        print(printed, end="")


def _take_down_feedback(args: argparse.Namespace, ids: list[str]) -> None:
    if not args.reason:
        raise UserError("takedown: no reason", "no --reason", "give one; it is kept in the file and in Git")
    data = args.data or DATA
    feedback_life.check_known(ids, data, allows_unknown=args.allow_unmatched)
    takedown.write_stones(args.takedowns, [make_tombstone("feedback", each, args.reason, args.date) for each in ids])
    removed = feedback_life.remove_rows(ids, data)
    rows = ", ".join(f"{count} of {name}" for name, count in removed.items()) or "none"
    print(f"{len(ids)} feedback taken down; rows removed: {rows}; dvc repro trains without them")


def _make_tombstones(args: argparse.Namespace, data: DataSnapshot) -> list[Tombstone]:
    values = [("id", takedown.resolve_id(data, query)) for query in args.id]
    values += [(kind, value) for kind in ("url", "domain", "license") for value in getattr(args, kind)]
    stones = [make_tombstone(kind, value, args.reason, args.date) for kind, value in values]
    return stones + [stone for path in args.file for stone in takedown.read_list(path, args.reason, args.date)]


def _replay(args: argparse.Namespace) -> None:
    data = _get_workspace(args)
    folder = next((each for each in reversed(data.docs.values()) if (each / "scores.parquet").exists()), None)
    if folder is None:
        raise UserError("replay: no stored scores", f"no scores.parquet in {data.final}", "run dvc repro filter")
    replay = replay_thresholds(folder, args.set, args.list)
    listed = [doc_id for doc_id, _ in (*replay.newly_dropped, *replay.newly_kept)]
    titles = read_titles(data.collected, listed) if listed else {}
    if args.json:
        show.show_json(show.make_replay_json(replay, titles))
    else:
        show.show_replay(replay, titles)


def _get_workspace(args: argparse.Namespace) -> DataSnapshot:
    if args.dvc_file is not None and not args.dvc_file.exists():
        raise UserError(f"{args.dvc_file}: no such file", "--dvc-file names it", "correct it, or leave --dvc-file out")
    return DataSnapshot(WORKSPACE, find_stage_folders(args.dvc_file or Path("dvc.yaml"), args.data))


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their flags."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m pipeline.ledger", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, text: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "--data",
            type=Path,
            metavar="FOLDER",
            help="a folder with one folder per stage (default: those in dvc.yaml)",
        )
        command.add_argument("--dvc-file", type=Path, metavar="FILE", help="the graph (default: dvc.yaml)")
        command.add_argument(
            "--takedowns",
            type=Path,
            default=takedown.TAKEDOWNS,
            metavar="FILE",
            help=f"the tombstones (default: {takedown.TAKEDOWNS})",
        )
        command.set_defaults(run=run)
        return command

    command = add(
        "why", "show the history of a document, stage by stage, and the model versions that have seen it", _why
    )
    command.add_argument(
        "query", help="an id or its first digits (fb_… for feedback), a title, a URL, a locator, or a piece of its text"
    )
    command = add("diff", "list documents added, lost and rewritten between two states of the data, by rule", _diff)
    command.add_argument(
        "before", metavar="A", help="a Git revision, a model version (v3), its run's name, or `workspace`"
    )
    command.add_argument("after", metavar="B", nargs="?", default=WORKSPACE, help="the same (default: workspace)")
    _add_output(command)
    _add_takedown(add("takedown", "remove documents from the corpus for good", _takedown))
    command = add("replay", "count what other thresholds would keep or drop, from the stored scores", _replay)
    command.add_argument(
        "--set",
        action="append",
        required=True,
        metavar="NAME=VALUE",
        help="a threshold by its name in params.yaml, such as filter.gopher_quality.min_words=50; may be repeated",
    )
    _add_output(command)
    return parser


def _add_takedown(command: argparse.ArgumentParser) -> None:
    command.add_argument("id", nargs="*", help="ids of documents, or their first digits; ids of feedback (fb_…)")
    for kind, text in (
        ("url", "the document at this URL"),
        ("domain", "all documents of this domain and its subdomains"),
        ("license", "all documents that may not be used without this license (SPDX)"),
    ):
        command.add_argument(f"--{kind}", action="append", default=[], metavar=kind.upper(), help=text)
    command.add_argument(
        "--file", action="append", type=Path, default=[], help="a list of ids, URLs, domain:NAME and license:NAME"
    )
    command.add_argument("--with-duplicates", action="store_true", help="also take down duplicates of these documents")
    command.add_argument(
        "--allow-unmatched", action="store_true", help="also record what matches no document yet, such as a domain"
    )
    command.add_argument(
        "--reason", default="", metavar="TEXT", help="kept in the file; quote no text of the document here"
    )
    command.add_argument(
        "--date",
        type=_check_date,
        default="",
        metavar="YYYY-MM-DD",
        help="the date of the request, if it is to be kept in the file",
    )
    command.add_argument(
        "--list", action="store_true", help="list what has been taken down, and the versions that had seen it"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")


def _check_date(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat() if text else ""
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date such as 2026-11-20") from None


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--list", type=int, default=0, metavar="N", help="also print N documents of each kind")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return the exit code."""
    args = make_parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`: what is still buffered must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (ComputeError, ColumnNotFoundError) as error:  # of a file that polars does not name
        if read_flag("MINIGPT_TRACEBACK"):
            raise
        todo = (
            "rebuild the data (dvc repro) or restore it from the cache (dvc checkout); MINIGPT_TRACEBACK=1 shows where"
        )
        print(
            f"error: {UserError(f'{args.command}: a data file is corrupt or of an earlier version', str(error), todo)}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"{args.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

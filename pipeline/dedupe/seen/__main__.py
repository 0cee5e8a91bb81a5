"""python -m pipeline.dedupe.seen: manage the index of documents that earlier runs kept (docs/incremental.md).

    python -m pipeline.dedupe.seen add    --index PLACE --run NAME --docs data/filter   add the documents of a run
    python -m pipeline.dedupe.seen remove --index PLACE ID … [--ids FILE]               remove documents from every run
    python -m pipeline.dedupe.seen list   --index PLACE                                 list the runs
    python -m pipeline.dedupe.seen check  --index PLACE                                 check the integrity of the index

PLACE is a folder. Shingles and bands are those of `dedupe` in params.yaml; an index that was filled with others is refused.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.dedupe.params import RUN_NAME, Dedupe
from pipeline.dedupe.seen.snapshot import make_settings, open_index
from pipeline.frame.errors import UserError
from pipeline.frame.settings import load_section
from pipeline.storage.lines import read_list


def add_run(place: str, name: str, docs: Path, dedupe: Dedupe) -> str:
    """Add one run to the index and return a line that reports it."""
    added = open_index(place).add(name, docs, make_settings(dedupe))
    what = f"{added.run.n_docs:,} documents" + ("" if added.is_new else ", already in the index")
    return f"run {added.run.name}: {what} (hash {added.run.content})"


def remove_docs(place: str, ids: Sequence[str]) -> str:
    """Remove documents from the index and return a line that reports it.

    Raises `UserError` that names the ids that the index does not contain, after the others have been removed; an id that was
    removed before is no error.
    """
    index = open_index(place)
    if index.read_settings() is None:  # a misspelled place must not look like a completed takedown
        raise UserError(f"dedupe.index: no index in {place}", "nothing was removed", "correct --index")
    before = index.list_removed_ids()
    removed = set(index.remove(ids))
    if unknown := sorted(set(ids) - removed - before):
        raise UserError(
            f"dedupe.index: {len(unknown):,} of {len(set(ids)):,} ids are not in {place}",
            f"{', '.join(unknown)} ({len(removed):,} other documents were removed)",
            "correct the ids: `python -m pipeline.ledger why` shows them",
        )
    repeated = len(set(ids) & before - removed)
    return f"{len(removed):,} documents removed" + (f"; {repeated:,} were removed before" if repeated else "")


def list_runs(place: str) -> str:
    """Return one line for each run, in the order in which they were added."""
    runs = open_index(place).list_runs()
    width = max([len(run.name) for run in runs], default=0)
    lines = [
        f"{run.name:{width}}  {run.n_docs:>12,} documents  {run.n_removed:>8,} removed  {run.content}" for run in runs
    ]
    return "\n".join(lines or ["no runs"])


def check_index(place: str) -> str:
    """Return a line that reports an intact index. Raises `UserError` that names what is broken."""
    problems = open_index(place).check()
    if problems:
        raise UserError(
            f"dedupe.index: {place} is broken", "; ".join(problems), "fill a new index from the runs' documents"
        )
    return "the index is intact"


def main(argv: list[str] | None = None) -> int:
    """Run one command on an index and return the exit code."""
    args = _make_parser().parse_args(argv)
    try:
        if args.command == "add":
            print(add_run(args.index, args.run, args.docs, load_section(Dedupe, "dedupe", args.params)))
        elif args.command == "remove":
            listed = [line for _, line in read_list(args.ids) if not line.startswith("#")] if args.ids else []
            print(remove_docs(args.index, [*args.id, *listed]))
        else:
            print((list_runs if args.command == "list" else check_index)(args.index))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        problem = UserError(f"dedupe.index: {error.filename}", str(error.strerror), "fix the path or the disk")
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.dedupe.seen", description="Manage the index of documents that earlier runs kept."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in {
        "add": "add the documents of a run",
        "remove": "remove documents from every run",
        "list": "list the runs",
        "check": "check the integrity of the index",
    }.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("--index", required=True, metavar="PLACE", help="folder of the index")
        if name == "add":
            _add_options_of_add(command)
        if name == "remove":
            command.add_argument("id", nargs="*", metavar="ID", help="ids of documents")
            command.add_argument("--ids", type=Path, metavar="FILE", help="file with more ids, one per line")
    return parser


def _add_options_of_add(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run", required=True, type=_check_run_name, metavar="NAME", help="name of the run; it can't be changed later"
    )
    command.add_argument(
        "--docs", required=True, type=Path, metavar="FOLDER", help="folder of the documents that the run kept"
    )
    command.add_argument(
        "--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="settings (default: params.yaml)"
    )


def _check_run_name(text: str) -> str:
    if not re.fullmatch(RUN_NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid name: use letters, digits, . _ -")
    return text


if __name__ == "__main__":
    sys.exit(main())

"""python -m pipeline.ledger why | diff | takedown | replay: ask about documents, compare corpora, take documents out.

In: the folders that the stages made (their places are read from dvc.yaml, or `--data FOLDER` holds one folder a stage), Git,
DVC's cache and the registry. Out: an answer on the terminal; only `takedown` writes, and only data/takedowns.jsonl.
Exit codes: 0 good, 1 a person's error (three lines, no traceback), 2 usage, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path

from polars.exceptions import ComputeError

from pipeline.download.tombstones import Tombstone, make_tombstone
from pipeline.frame.environment import read_flag
from pipeline.frame.errors import UserError
from pipeline.ledger import show, takedown
from pipeline.ledger.diff import diff
from pipeline.ledger.find import titles
from pipeline.ledger.places import DataSnapshot, DvcCache, Lineage, lineage_at, snapshot, stage_folders
from pipeline.ledger.replay import replay
from pipeline.ledger.versions import Registered, RegisteredVersions
from pipeline.ledger.why import why

WORKSPACE = "workspace"
MIN_RUN_NAME = 7  # letters of a version's fingerprint


def _why(args: argparse.Namespace) -> None:
    root = Path.cwd()
    stones = takedown.read_stones(args.takedowns)
    print(why(_workspace(args), args.query, stones, RegisteredVersions(root, DvcCache(root)), args.takedowns))


def _diff(args: argparse.Namespace) -> None:
    root = Path.cwd()
    registry = RegisteredVersions(root, DvcCache(root))
    with contextlib.ExitStack() as stack:
        a, b = (stack.enter_context(_state(args, name, registry)) for name in (args.before, args.after))
        found = diff(a, b)
    if args.json:
        show.show_json(show.diff_json(found, args.list))
    else:
        show.show_diff(found, args.list)


@contextlib.contextmanager
def _state(args: argparse.Namespace, name: str, registry: RegisteredVersions) -> Generator[DataSnapshot]:
    """The workspace, a model version or a Git revision; links to its files live as long as they are asked for."""
    if name == WORKSPACE:
        yield _workspace(args)
        return
    with tempfile.TemporaryDirectory(prefix="minigpt-ledger-") as links:
        yield snapshot(name, lineage_of(registry, name), registry.cache, Path(links))


def lineage_of(registry: RegisteredVersions, name: str) -> Lineage:
    """`v3` is version 3 of the model; the first letters of a fingerprint (a run's name) are that version; else Git is asked."""
    if name[:1] == "v" and name[1:].isdigit():
        return _version(registry, lambda version: version.number == name[1:], name).made
    try:
        return lineage_at(registry.root, name)
    except UserError:
        if len(name) < MIN_RUN_NAME:
            raise
        found = [version for version in registry.versions if version.fingerprint.startswith(name)]
        if not found:
            raise
        return found[0].made


def _version(registry: RegisteredVersions, is_it: Callable[[Registered], bool], name: str) -> Registered:
    for version in registry.versions:
        if is_it(version):
            return version
    if registry.trouble:
        raise registry.trouble
    raise UserError(
        f"{name}: no such model version",
        f"{len(registry.versions)} versions",
        "see `python -m pipeline.registry list`; a Git tag of that name is refs/tags/" + name,
    )


def _takedown(args: argparse.Namespace) -> None:
    root = Path.cwd()
    registry, data = RegisteredVersions(root, DvcCache(root)), _workspace(args)
    if args.list:
        rows, sights = takedown.listing(data, takedown.read_stones(args.takedowns), registry)
        if args.json:
            show.show_json(show.listing_json(rows, sights))
        else:
            show.show_listing(rows, sights, registry.note)
        return
    stones = _asked(args, data)
    if not stones:
        raise UserError("takedown: nothing to take down", "no id and no flag", "give an id, --url, --domain, --license")
    if any(not stone.reason for stone in stones):
        raise UserError("takedown: no reason", "--reason is missing", "say why; it stays in the file and in Git")
    before = takedown.read_stones(args.takedowns)
    made = takedown.plan(data, stones, registry, before, with_duplicates=args.with_duplicates)
    n_new = takedown.write(args.takedowns, made.stones)
    if args.json:
        show.show_json(show.plan_json(made, n_new))
    else:
        show.show_plan(made, n_new, str(args.takedowns), registry.note)


def _asked(args: argparse.Namespace, data: DataSnapshot) -> list[Tombstone]:
    values = [("id", takedown.whole_id(data, query)) for query in args.id]
    values += [(kind, value) for kind in ("url", "domain", "license") for value in getattr(args, kind)]
    stones = [make_tombstone(kind, value, args.reason, args.date) for kind, value in values]
    return stones + [stone for path in args.file for stone in takedown.read_list(path, args.reason, args.date)]


def _replay(args: argparse.Namespace) -> None:
    data = _workspace(args)
    folder = next((each for each in reversed(data.docs.values()) if (each / "scores.parquet").exists()), None)
    if folder is None:
        raise UserError("replay: no stored scores", f"no scores.parquet in {data.final}", "run dvc repro filter")
    found = replay(folder, args.set, args.list)
    listed = [doc_id for doc_id, _ in (*found.newly_dropped, *found.newly_kept)]
    known = titles(data.collected, listed) if listed else {}
    if args.json:
        show.show_json(show.replay_json(found, known))
    else:
        show.show_replay(found, known)


def _workspace(args: argparse.Namespace) -> DataSnapshot:
    return DataSnapshot(WORKSPACE, stage_folders(args.dvc_file, args.data))


def parser() -> argparse.ArgumentParser:
    """The commands and their flags."""
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(prog="python -m pipeline.ledger", description=__doc__, formatter_class=raw)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, say: str, run: Callable[[argparse.Namespace], None]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=say, description=say)
        command.add_argument(
            "--data", type=Path, metavar="FOLDER", help="one folder a stage (default: as dvc.yaml says)"
        )
        command.add_argument("--dvc-file", type=Path, default=Path("dvc.yaml"), metavar="FILE", help="the graph")
        command.add_argument(
            "--takedowns", type=Path, default=takedown.TAKEDOWNS, metavar="FILE", help="the tombstones"
        )
        command.set_defaults(run=run)
        return command

    command = add("why", "the life of a document, stage by stage, and the model versions that have seen it", _why)
    command.add_argument(
        "query", help="an id (or its first letters), a title, a URL, a locator, or a piece of its text"
    )
    command = add("diff", "documents added, lost and rewritten between two states of the data, by rule", _diff)
    command.add_argument(
        "before", metavar="A", help="a Git revision, a model version (v3), its run's name, or `workspace`"
    )
    command.add_argument("after", metavar="B", nargs="?", default=WORKSPACE, help="likewise (default: workspace)")
    _add_output(command)
    command = add("takedown", "take documents out of the corpus, for good", _takedown)
    command.add_argument("id", nargs="*", help="ids of documents (or their first letters)")
    for kind, say in (
        ("url", "the document at this URL"),
        ("domain", "all of this domain and those below it"),
        ("license", "all that may not be used without this license (SPDX)"),
    ):
        command.add_argument(f"--{kind}", action="append", default=[], metavar=kind[0].upper(), help=say)
    command.add_argument("--file", action="append", type=Path, default=[], help="of ids, URLs, domain:D, license:L")
    command.add_argument("--with-duplicates", action="store_true", help="the duplicates of these documents too")
    command.add_argument(
        "--reason", default="", metavar="TEXT", help="why: kept in the file; write no text of the document"
    )
    command.add_argument("--date", default="", help="when it was asked for, if that should stay in the file")
    command.add_argument("--list", action="store_true", help="what has been taken down, and which versions had seen it")
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command = add("replay", "what other thresholds would keep or drop, from the stored scores", _replay)
    command.add_argument(
        "--set",
        action="append",
        required=True,
        metavar="NAME=VALUE",
        help="as in params.yaml, filter.gopher_quality.min_words=50",
    )
    _add_output(command)
    return whole


def _add_output(command: argparse.ArgumentParser) -> None:
    command.add_argument("--list", type=int, default=0, metavar="N", help="also print N documents of each kind")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def main(argv: list[str] | None = None) -> int:
    """Answers one question and returns the exit code."""
    args = parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`: what is still buffered must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ComputeError as error:  # a broken file, which polars does not name
        if read_flag("MINIGPT_TRACEBACK"):
            raise
        todo = (
            "make the data again (dvc repro) or get it from the cache (dvc checkout); MINIGPT_TRACEBACK=1 shows where"
        )
        print(f"error: {UserError(f'{args.command}: a file of the data is broken', str(error), todo)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{args.command}: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

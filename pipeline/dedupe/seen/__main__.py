"""python -m pipeline.near_index: what earlier runs kept, so that a nightly run drops what they said already.

    python -m pipeline.near_index add    --index PLACE --run NAME --docs data/filter   put the documents of a run in
    python -m pipeline.near_index remove --index PLACE ID … [--ids FILE]               take documents out of every run
    python -m pipeline.near_index list   --index PLACE                                 the runs there are
    python -m pipeline.near_index check  --index PLACE                                 is it whole?

PLACE is a folder. Shingles and bands are those of `dedupe` in params.yaml, and an index that was filled with others is refused.

For `dedupe`: `snapshot` says once which runs count; `lookup` asks them for one batch of documents, `duplicates_in` for a
shard, both in any worker; `record` is what the stage stores, so that a run says what it was compared with.
Memory, time, and the rule of who counts as earlier: `pipeline/seen/`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.dedupe.minhash.sketch import Sketches
from pipeline.dedupe.params import RUN_NAME, Dedupe, NearIndex
from pipeline.dedupe.seen.index_folder import FolderIndex
from pipeline.dedupe.seen.runs import IndexedRun, SeenDocuments, Settings, check_settings, sketch_batches
from pipeline.frame.errors import UserError
from pipeline.frame.settings import load_section
from pipeline.storage.tables import read_shard

DUPLICATES = pa.schema(
    [("row", pa.int64()), ("other_id", pa.string()), ("similarity", pa.float64()), ("is_exact", pa.bool_())]
)


class IndexSnapshot(NamedTuple):
    """Which runs of which index count: small, and the same for every worker."""

    place: str
    settings: Settings
    runs: tuple[IndexedRun, ...]


def open_index(place: str) -> FolderIndex:
    """Open the index in a folder; nothing is created before something is added. Raises `UserError` for a URL."""
    if "://" in place:  # which may contain a password
        raise UserError(
            "dedupe.index.place (--index): must be a folder index",
            f"a URL ({place.partition('://')[0]}://…)",
            "give the path of a folder; fill it with python -m pipeline.near_index add",
        )
    return FolderIndex(Path(place))


def settings_of(dedupe: Dedupe) -> Settings:
    """What an index must have been filled with to be asked under these params."""
    return Settings(dedupe.ngram_words, dedupe.n_bands, dedupe.n_rows, dedupe.seed)


def snapshot(near: NearIndex, dedupe: Dedupe) -> IndexSnapshot:
    """The runs that `near` names, as they are now. Raises `UserError`: no index, other settings, no such run."""
    index, settings = open_index(near.place), settings_of(dedupe)
    stored, place = index.settings(), near.place
    if stored is None:
        raise UserError(
            f"dedupe.index.place: no index in {place}",
            "nothing was ever added",
            "fill it with python -m pipeline.near_index add, or set dedupe.index to null for the first run",
        )
    check_settings(place, stored, settings)
    runs = {run.name: run for run in index.runs()}
    names = list(runs) if near.runs == "all" else near.runs
    missing = [name for name in names if name not in runs]
    if missing:
        there = ", ".join(runs) or "no runs"
        raise UserError(f"dedupe.index.runs: {', '.join(missing)} is not in {place}", there, "name runs that are there")
    chosen = sorted((runs[name] for name in dict.fromkeys(names)), key=lambda run: run.number)
    return IndexSnapshot(near.place, settings, tuple(chosen))


def lookup(known: IndexSnapshot, sketches: Sketches, min_jaccard: float) -> SeenDocuments:
    """Which of these documents an earlier run kept already, and under which id."""
    return open_index(known.place).query(known.runs, sketches, known.settings, min_jaccard)


def duplicates_in(shard: Path, known: IndexSnapshot, min_jaccard: float) -> pa.Table:
    """`lookup` for a whole shard, from its texts: the rows that were seen before (schema DUPLICATES), in order."""
    parts, first = [DUPLICATES.empty_table()], 0
    for part in sketch_batches(read_shard(shard, ["id", "text"]), known.settings):
        seen = lookup(known, part, min_jaccard)
        rows = np.flatnonzero(seen.is_seen)
        columns = [first + rows, seen.other_id.take(pa.array(rows)), seen.similarity[rows], seen.is_exact[rows]]
        parts.append(pa.table(columns, schema=DUPLICATES))
        first += len(part.ids)
    return pa.concat_tables(parts)


def record(known: IndexSnapshot) -> dict[str, object]:
    """What a stage stores: the settings and, in their order, the runs with their hashes. Never the place, which may change."""
    runs = [{name: value for name, value in run._asdict().items() if name != "number"} for run in known.runs]
    return {"settings": known.settings._asdict(), "runs": runs}


def add(place: str, name: str, docs: Path, dedupe: Dedupe) -> str:
    """Puts one run in and says what happened."""
    done = open_index(place).add(name, docs, settings_of(dedupe))
    what = f"{done.run.n_docs:,} documents" + ("" if done.is_new else ", which were there already")
    return f"run {done.run.name}: {what} (hash {done.run.content})"


def remove(place: str, ids: Sequence[str]) -> str:
    """Takes documents out and names those that were not there."""
    index = open_index(place)
    if index.settings() is None:  # a misspelt place must not look like a takedown that is done
        raise UserError(f"near_index: no index in {place}", "nothing was removed", "correct --index")
    gone = set(index.remove(ids))
    strangers = sorted(set(ids) - gone)
    absent = f"; not in the index: {', '.join(strangers)}" if strangers else ""
    return f"{len(gone):,} documents removed{absent}"


def listing(place: str) -> str:
    """A line a run, in the order they were added."""
    runs = open_index(place).runs()
    width = max([len(run.name) for run in runs], default=0)
    lines = [
        f"{run.name:{width}}  {run.n_docs:>12,} documents  {run.n_removed:>8,} removed  {run.content}" for run in runs
    ]
    return "\n".join(lines or ["no runs"])


def check(place: str) -> str:
    """Raises `UserError` that names what is broken."""
    problems = open_index(place).check()
    if problems:
        raise UserError(
            f"near_index: {place} is broken", "; ".join(problems), "fill a new index from the runs' documents"
        )
    return "the index is whole"


def main(argv: list[str] | None = None) -> int:
    """Does one thing to an index and returns the exit code."""
    args = _parser().parse_args(argv)
    try:
        if args.command == "add":
            print(add(args.index, args.run, args.docs, load_section(Dedupe, "dedupe", args.params)))
        elif args.command == "remove":
            lines = args.ids.read_text(encoding="utf-8").splitlines() if args.ids else []
            print(remove(args.index, [*args.id, *(line.strip() for line in lines if line.strip())]))
        else:
            print((listing if args.command == "list" else check)(args.index))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"error: {UserError(f'near_index: {error.filename}', str(error.strerror), 'mend the path or the disk')}",
            file=sys.stderr,
        )
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pipeline.near_index", description="What earlier runs kept.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in {
        "add": "put the documents of a run in",
        "remove": "take documents out of every run",
        "list": "the runs there are",
        "check": "is it whole?",
    }.items():
        command = commands.add_parser(name, help=about)
        command.add_argument("--index", required=True, metavar="PLACE", help="the folder of the index")
        if name == "add":
            command.add_argument(
                "--run", required=True, type=_run_name, metavar="NAME", help="its name, once and for all"
            )
            command.add_argument("--docs", required=True, type=Path, metavar="FOLDER", help="what the run kept")
            command.add_argument(
                "--params",
                type=Path,
                default=Path("params.yaml"),
                metavar="FILE",
                help="settings (default: params.yaml)",
            )
        if name == "remove":
            command.add_argument("id", nargs="*", metavar="ID", help="ids of documents")
            command.add_argument("--ids", type=Path, metavar="FILE", help="more of them, one a line")
    return parser


def _run_name(text: str) -> str:
    if not re.fullmatch(RUN_NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name: letters, digits, . _ -")
    return text


if __name__ == "__main__":
    sys.exit(main())

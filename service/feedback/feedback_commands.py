"""python -m service feedback list | accept | reject | export: what people said about answers."""

from __future__ import annotations

import argparse
import getpass
import json
from pathlib import Path
from typing import Any

from assistant.guard.masking import PersonalMasker
from service.access.key_commands import add_database_flags, open_database
from service.feedback.feedback_export import make_export, read_taken_down, write_export
from service.feedback.feedback_routes import describe_feedback
from service.feedback.feedback_store import Feedback, FeedbackStore

MAX_EXPORTED = 1_000_000


def add_commands(subparsers: Any) -> None:
    """Add the command feedback."""
    parser = subparsers.add_parser("feedback", help="what people said about answers", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list feedback, newest first")
    listing.add_argument("--only", choices=("new", "accepted", "rejected"), help="those in this state")
    listing.add_argument("--tenant", metavar="NAME", help="only this tenant's")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="(%(default)s)")
    listing.add_argument("--json", action="store_true", help="print an object per line")
    listing.set_defaults(run=list_feedback)
    for state, about in (("accept", "use it for training and evaluation"), ("reject", "never use it")):
        action = actions.add_parser(state, help=about)
        action.add_argument("id", nargs="+", help="ids (`feedback list`)")
        if state == "accept":
            action.add_argument("--correction", metavar="TEXT", help="what the answer should have been")
            about = "section that answers, such as pandas.read_csv (may be repeated)"
            action.add_argument("--title", action="append", metavar="TITLE", help=about)
        action.set_defaults(run=review_feedback, verdict=f"{state}ed")
    export = actions.add_parser("export", help="write what is accepted into a folder that the pipeline reads")
    export.add_argument("--out", type=Path, default=Path("data/feedback"), metavar="FOLDER", help="(%(default)s)")
    export.add_argument(
        "--takedowns", type=Path, default=Path("data/takedowns.jsonl"), metavar="FILE", help="(%(default)s)"
    )
    export.add_argument("--tenant", metavar="NAME", help="only this tenant's")
    export.set_defaults(run=export_feedback)
    for action in actions.choices.values():
        add_database_flags(action)


def list_feedback(args: argparse.Namespace) -> int:
    """Print feedback for people or as JSON lines."""
    with open_database(args) as database:
        store = FeedbackStore(database, str)
        rows = store.list_feedback(args.tenant, [args.only] if args.only else (), args.limit)
        counts = store.count(args.tenant)
    if args.json:
        for row in rows:
            print(json.dumps(describe_feedback(row), ensure_ascii=False))
        return 0
    for row in rows:
        print("\n".join(_describe(row)))
    total = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in sorted(counts.items()))
    print(total or "there is no feedback yet")
    return 0


def review_feedback(args: argparse.Namespace) -> int:
    """Accept or reject feedback."""
    masker = PersonalMasker()
    with open_database(args) as database:
        store = FeedbackStore(database, lambda text: masker.mask(text, ("*",))[0])
        for feedback_id in args.id:
            better = getattr(args, "correction", None), getattr(args, "title", None)
            made = store.review(None, feedback_id, args.verdict, getpass.getuser(), *better)
            idle = "; it teaches nothing: give --correction or --title" if make_export([made]).unused else ""
            print(f"{made.id} is {made.state}{idle}")
    return 0


def export_feedback(args: argparse.Namespace) -> int:
    """Write what is accepted for the pipeline."""
    with open_database(args) as database:
        accepted = FeedbackStore(database, str).list_feedback(args.tenant, ["accepted"], limit=MAX_EXPORTED)
    export = make_export(accepted, read_taken_down(args.takedowns))
    for name, count in write_export(args.out, export).items():
        print(f"{args.out / name}: {count:,} rows")
    if export.n_taken_down:
        print(f"{export.n_taken_down:,} taken down ({args.takedowns})")
    if export.unused:
        print(
            f"{len(export.unused):,} teach nothing: a thumb without a correction or a section (accept --correction, --title)"
        )
    print("next: dvc repro (or make run); the stages conversations, embed and evaluate read the folder")
    return 0


def _describe(row: Feedback) -> list[str]:
    """Return a line with the whole id, which the other commands need, and one for each text that there is."""
    reason = f"{row.rating}, {row.reason}" if row.reason else row.rating
    consent = "with consent" if row.consent else "without consent"
    texts = {
        "asked": row.question,
        "answer": row.text,
        "right": row.correction,
        "titles": ", ".join(row.titles),
        "comment": row.comment,
    }
    lines = [f"{name:>9}: {_shorten(text)}" for name, text in texts.items() if text]
    return [f"{row.id}  {row.time:%Y-%m-%d %H:%M}  {row.tenant}  {reason}  {row.state}  {consent}", *lines]


def _shorten(text: str, limit: int = 100) -> str:
    line = "".join(character if character.isprintable() else " " for character in text)
    return line if len(line) <= limit else f"{line[: limit - 1]}…"

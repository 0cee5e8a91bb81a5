"""python -m pipeline.conversations check | rejects: what files of conversations contain, before any run; what a run has rejected.

`check PATH …` reads files or folders as the stage does and prints a table: file, formats, conversations, turns, and the rejected
rows by reason with the first of each. Without a path it checks `conversations.sources` of params.yaml. Nothing is written. Lengths
are checked where there is a tokenizer; evaluation sets are checked by the stage alone. `rejects` prints what the last run has left
out. Exit codes: 0 every file has usable conversations, 1 a file has none or can't be read, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.conversations.chat_files import list_chat_files
from pipeline.conversations.chat_formats import FORMATS
from pipeline.conversations.chat_reports import FileReport, print_rejects, print_reports, report_file
from pipeline.conversations.chat_screen import ChatScreen
from pipeline.conversations.chats import find_source_files
from pipeline.conversations.params import ChatColumns, ChatSource, Conversations
from pipeline.conversations.stage import count_message_tokens, make_token_counter
from pipeline.frame.environment import read_flag
from pipeline.frame.errors import UserError
from pipeline.frame.settings import check_section, load_section
from pipeline.screening.license_policy import make_license_policy

UNSTATED = "unstated"  # the license of a path on the command line; the stage asks for one


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.conversations", description=(__doc__ or "").partition("\n")[2]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_check(commands.add_parser("check", help="what files contain, before any run"))
    rejects = commands.add_parser("rejects", help="what the last run has left out, and why")
    rejects.add_argument("--data", type=Path, default=Path("data/conversations"), metavar="FOLDER")
    rejects.add_argument("--reason", default="", help="only this one")
    rejects.add_argument("--limit", type=int, default=50, metavar="N", help="rows that are listed")
    args = parser.parse_args(argv)
    try:
        if args.command == "rejects":
            return print_rejects(args.data / "rejects.parquet", args.reason, args.limit)
        return _check(args)
    except UserError as error:
        if read_flag("MINIGPT_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="files or folders (default: conversations.sources)"
    )
    parser.add_argument("--format", choices=("auto", *FORMATS), default="auto", help="of all rows")
    parser.add_argument(
        "--columns", default="", metavar="ROLE=FIELD,…", help="user=question,assistant=answer: the format columns"
    )
    parser.add_argument("--ignore", default="", metavar="FIELD,…", help="fields that other programs need")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
    parser.add_argument("--chats", type=Path, default=Path("data/chats"), metavar="FOLDER", help="where sources are")
    parser.add_argument(
        "--tokenizer", type=Path, default=Path("data/train_tokenizer"), metavar="FOLDER", help="counts tokens"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per file")


def _check(args: argparse.Namespace) -> int:
    params = load_section(Conversations, "conversations", args.params)
    screen = _make_screen(params, args.tokenizer / "tokenizer.json", has_policy=not args.paths)
    reports: list[FileReport] = []
    for path, name, source in _list_files(args, params):
        reports.append(report_file(path, name, source, screen))
    if not reports:
        found = "conversations.sources is empty" if not args.paths else ", ".join(map(str, args.paths))
        raise UserError(
            "check: no files of conversations", found, "give a file or folder, or add sources to params.yaml"
        )
    print_reports(reports, is_json=args.json)
    return 1 if any(report.problem for report in reports) else 0


def _make_screen(params: Conversations, tokenizer: Path, *, has_policy: bool) -> ChatScreen:
    if not tokenizer.exists():
        print(f"lengths are not checked: there is no {tokenizer}", file=sys.stderr)
        return ChatScreen()
    counter = make_token_counter(tokenizer.read_text(encoding="utf-8"))
    policy = make_license_policy(params.licenses) if params.licenses and has_policy else None
    return ChatScreen(policy=policy, count_tokens=count_message_tokens(counter), max_tokens=params.max_tokens)


def _list_files(args: argparse.Namespace, params: Conversations) -> list[tuple[Path, str, ChatSource]]:
    """Return (path, name to show, settings) of each file."""
    if not args.paths:
        files = find_source_files(args.chats, params.sources)
        root = args.chats.resolve()
        return [(path, str(path.relative_to(root)), source) for source in params.sources for path in files[source.name]]
    source = _make_source(args)
    found: list[tuple[Path, str, ChatSource]] = []
    for path in args.paths:
        if not path.exists():
            raise UserError(
                f"check: {path} is missing", f"nothing of that name in {path.absolute().parent}", "correct the path"
            )
        found += [(file, str(file), source) for file in (list_chat_files(path) if path.is_dir() else [path])]
    return found


def _make_source(args: argparse.Namespace) -> ChatSource:
    columns = dict(pair.partition("=")[::2] for pair in args.columns.split(",") if pair)
    values = {
        "name": "checked",
        "path": "checked",
        "license": UNSTATED,
        "format": "columns" if columns else args.format,
        "columns": check_section(ChatColumns, columns, "--columns") if columns else None,
        "ignore": [name for name in args.ignore.split(",") if name],
    }
    return check_section(ChatSource, values, "check")


if __name__ == "__main__":
    sys.exit(main())

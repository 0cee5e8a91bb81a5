"""Show what the log of a tutor's learners says, for their educator.

    python -m assistant.profiles log                    one line per learner
    python -m assistant.profiles log --learner ada      everything that ada asked and tried
    python -m assistant.profiles log --xapi             xAPI statements, JSON lines, for a learning record store

Exit codes: 0 success, 1 user error, 2 usage.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from assistant.profiles.learner_log import (
    LogEntry,
    check_learner,
    get_log_folder,
    make_statements,
    read_log,
    summarize,
)
from assistant.profiles.profile import load_profile
from assistant.terminal.plain_text import strip_control_characters


def main(argv: list[str] | None = None) -> int:
    """Run the command and return the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m assistant.profiles", description=__doc__, formatter_class=raw)
    sub = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = sub.add_parser("log", help="show the log of a tutor's learners")
    command.add_argument("--profile", default="tutor", metavar="NAME", help="the profile (%(default)s)")
    command.add_argument("--learner", metavar="NAME", help="only this learner, every entry")
    command.add_argument("--xapi", action="store_true", help="print xAPI statements as JSON lines")
    args = parser.parse_args(argv)
    try:
        _run_log(args)
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run_log(args: argparse.Namespace) -> None:
    name = load_profile(args.profile).name
    folder = get_log_folder(name)
    paths = [folder / f"{check_learner(args.learner)}.jsonl"] if args.learner else sorted(folder.glob("*.jsonl"))
    if not any(path.exists() for path in paths):
        raise ValueError(
            f"there is no log; not found: {paths[0] if paths else folder}; talk to the profile first (assistant --profile)."
        )
    entries, n_bad = _read_logs(paths)
    if n_bad:
        print(f"{n_bad} damaged lines are left out", file=sys.stderr)
    if args.xapi:
        lines = [json.dumps(statement, ensure_ascii=True) for statement in make_statements(entries, name)]
    elif args.learner:
        lines = [
            f"{entry.time}  {entry.verb:<9}  {entry.text}  [{'; '.join(entry.titles)}]".replace("\n", " ⏎ ")
            for entry in entries
        ]
    else:
        lines = [
            f"{learner}: {', '.join(f'{count} {verb}' for verb, count in counts.items() if count)}"
            for learner, counts in summarize(entries).items()
        ]
    for line in lines:
        print(strip_control_characters(line))


def _read_logs(paths: list[Path]) -> tuple[list[LogEntry], int]:
    logs = [read_log(path) for path in paths]
    return [entry for entries, _ in logs for entry in entries], sum(n_bad for _, n_bad in logs)


if __name__ == "__main__":
    sys.exit(main())

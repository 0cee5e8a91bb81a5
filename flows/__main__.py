"""python -m flows retrain | ui: run everything that has changed, or look at what has been run.

Exit codes: 0 good (a refusal by the gate is one), 1 a stage failed or the workspace is busy, 2 usage, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from flows.processes import server, workspace
from flows.steps import console


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m flows", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("retrain", help="every stage that has changed, then publish, gate, promote")
    command.add_argument("--no-register", action="store_true", help="stop after the stages")
    commands.add_parser("ui", help="Prefect's and MLflow's pages, until Ctrl-C")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _retrain(not args.no_register) if args.command == "retrain" else _ui()
    except (workspace.WorkspaceBusyError, server.ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{args.command}: stopped; `make run` goes on from here", file=sys.stderr)
        return 130


def _retrain(register: bool) -> int:
    root = Path.cwd()
    if not (root / "dvc.yaml").exists():
        print(
            f"error: {root}: not the repository\n  found: no dvc.yaml\n  to do: run in the repository's root",
            file=sys.stderr,
        )
        return 1
    with workspace.hold(root):
        print(console.line("retrain", "starting"), flush=True)
        server.ensure(root)
        from flows.steps import summary  # Prefect reads its settings when it is imported: now they are there

        return summary.run(root, register)


def _ui() -> int:
    from flows.processes import ui

    return ui.run(Path.cwd())


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    print("\nstopped by SIGTERM", file=sys.stderr, flush=True)
    sys.exit(143)  # SystemExit unwinds, so that every child is ended


if __name__ == "__main__":
    sys.exit(main())

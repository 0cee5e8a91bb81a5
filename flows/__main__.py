"""python -m flows retrain | ui: run everything that has changed, or browse what has been run.

Exit codes: 0 success (including a refusal by the gate), 1 a stage failed or the workspace is busy, 2 usage, 130 interrupted,
143 terminated.
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
    """Run one command and return the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m flows", description=__doc__, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    command = commands.add_parser("retrain", help="run every stage that has changed, then publish, gate and promote")
    command.add_argument(
        "--no-register", action="store_true", help="run the stages and write the report; publish nothing"
    )
    commands.add_parser("ui", help="serve Prefect's and MLflow's pages until Ctrl-C")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _retrain(not args.no_register) if args.command == "retrain" else _ui()
    except (workspace.WorkspaceBusyError, server.ServerError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\n{args.command}: stopped; `make run` continues from here", file=sys.stderr)
        return 130


def _retrain(register: bool) -> int:
    root = Path.cwd()
    if not (root / "dvc.yaml").exists():
        print(
            f"error: {root}: not the repository's root\n  found: no dvc.yaml\n  to do: run in the repository's root",
            file=sys.stderr,
        )
        return 1
    with workspace.hold(root):
        print(console.format_line("retrain", "starting"), flush=True)
        server.ensure_server(root)
        from flows.steps import summary  # Prefect reads its settings when it is imported

        return summary.run_flow(root, register)


def _ui() -> int:
    from flows.processes import ui

    return ui.serve(Path.cwd())


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    print("\nstopped by SIGTERM", file=sys.stderr, flush=True)
    sys.exit(143)  # SystemExit unwinds the stack, which terminates every child


if __name__ == "__main__":
    sys.exit(main())

"""python -m flows retrain | ui | invocations | worker: run what has changed, browse what has been run, serve the champion.

Exit codes: 0 success (including a refusal by the gate), 1 a stage failed or the workspace is busy, 2 usage, 130 interrupted,
143 terminated.
"""

from __future__ import annotations

import argparse
import errno
import signal
import sys
from pathlib import Path
from types import FrameType

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports: end without a traceback

from flows.processes import credentials, invocations, server, ui, worker, workspace
from flows.steps import graph, preflight, summary

OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
ERRORS = (
    workspace.WorkspaceBusyError,
    server.ServerError,
    credentials.KeyFileError,
    preflight.PreflightError,
    graph.GraphError,
)


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
    command = commands.add_parser(
        "invocations", help="serve the champion by MLflow's protocol, at /invocations, until Ctrl-C"
    )
    command.add_argument("--port", type=int, default=5001, help="default: 5001")
    commands.add_parser("worker", help="start the flow runs that Prefect's schedule or page orders, while `ui` runs")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run(args)
    except ERRORS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        print(
            f"error: {args.command}: a file of the workspace could not be read or written\n"
            f"  found: {error.filename or 'var'}: {error.strerror}\n"
            "  to do: free disk space, or make the folder writable for you, then try again",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        how = "; `make run` continues from here" if args.command == "retrain" else ""
        print(f"\n{args.command}: stopped{how}", file=sys.stderr)
        return 130


def _run(args: argparse.Namespace) -> int:
    root = Path.cwd()
    if not (root / "dvc.yaml").exists():
        print(
            f"error: {root}: not the repository's root\n  found: no dvc.yaml\n  to do: run in the repository's root",
            file=sys.stderr,
        )
        return 1
    match args.command:
        case "ui":
            return ui.serve(root)
        case "invocations":
            return invocations.serve_champion(root, args.port)
        case "worker":
            return worker.start(root)
        case _:
            with workspace.hold(root) as lock:
                preflight.check_workspace(root)
                return summary.run_everything(root, lock, not args.no_register)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    print("\nstopped by SIGTERM", file=sys.stderr, flush=True)
    sys.exit(143)  # SystemExit unwinds the stack, which terminates every child


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())

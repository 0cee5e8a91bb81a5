"""Run one stage inside the frame, in this process: what `python -m pipeline STAGE --docs … --out … --metrics …` does in the end.

A stage that trains may get several processes, each of which calls `run_stage_command` (pipeline/launch.py).
Exit codes: 0 success, 1 user error (three lines, no traceback; 78 in a process of torchrun), 2 usage error, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType

from pipeline.frame.environment import read_flag
from pipeline.frame.errors import EXIT_OF_RANK, UserError
from pipeline.frame.lifetime import die_with_parent
from pipeline.params import OPTIONAL_STAGES, STAGES
from pipeline.run import TERMINATED, list_inputs, load_stage, run_stage
from pipeline.workers.map import ENGINES

OTHERS_WAIT_SECONDS = 5.0
SIGNAL_WAIT_SECONDS = 1.0


def parse_command(argv: list[str]) -> tuple[ModuleType, argparse.Namespace, dict[str, Path]]:
    """Return the module of the stage, its parsed options, and its inputs by name. Exits with 2 for a usage error."""
    chooser = argparse.ArgumentParser(
        prog="python -m pipeline", description="Run one stage of the pipeline (dvc.yaml defines their order)."
    )
    chooser.add_argument("stage", choices=(*STAGES, *OPTIONAL_STAGES))
    chosen = chooser.parse_args(argv[:1])
    module = load_stage(chosen.stage)
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline {chosen.stage}",
        description=module.__doc__,  # inputs, outputs and memory
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    inputs = list_inputs(module.run)
    for name, is_required in inputs.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=Path, required=is_required, metavar="PATH", help="input, as in dvc.yaml"
        )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="output folder")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FILE", help="JSON file for the metrics")
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="settings (default: params.yaml)"
    )
    parser.add_argument("--engine", choices=ENGINES, help="where maps over shards run (default: process)")
    args = parser.parse_args(argv[1:])
    return module, args, {name: getattr(args, name) for name in inputs if getattr(args, name) is not None}


def run_stage_command(argv: list[str]) -> int:
    """Run one stage and return the exit code."""
    module, args, inputs = parse_command(argv)
    if args.engine:
        os.environ["MINIGPT_ENGINE"] = args.engine
    if is_rank():
        die_with_parent(os.getppid())
        signal.signal(signal.SIGINT, interrupt_once)
    try:
        with await_interrupt():
            run_stage(module, params_path=args.params, inputs=inputs, out=args.out, metrics_path=args.metrics)
    except UserError as error:
        return _report_user_error(str(error))
    except ValueError as error:  # `model` and the pure rooms raise user errors as plain ValueErrors
        if read_flag("MINIGPT_TRACEBACK"):
            raise
        return _report_user_error(f"{argv[0]}: {error} (MINIGPT_TRACEBACK=1 shows the traceback)")
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            print(f"{argv[0]}: interrupted; run it again to resume", file=sys.stderr)
        return 130
    return 0


@contextmanager
def await_interrupt() -> Generator[None]:
    """Turn the loss of a peer into KeyboardInterrupt or SystemExit if a signal caused it: torchrun passes signals on to one process
    after the other, so this process may receive it only after its peer has ended, or inside a checkpoint, where torch catches every
    exception in order to inform all others."""
    try:
        yield
    except RuntimeError:  # from gloo or NCCL
        if is_rank() and not (was_stopped_by(signal.SIGINT) or was_stopped_by(signal.SIGTERM)):
            time.sleep(SIGNAL_WAIT_SECONDS)
        if is_rank() and was_stopped_by(signal.SIGINT):
            raise KeyboardInterrupt from None
        if is_rank() and was_stopped_by(signal.SIGTERM):
            raise SystemExit(TERMINATED) from None
        raise


def was_stopped_by(number: signal.Signals) -> bool:
    """Return whether `interrupt_once` (SIGINT) or `exit_once` (SIGTERM) has been called."""
    return signal.getsignal(number) is signal.SIG_IGN


def is_rank() -> bool:
    """Return whether torchrun started this process."""
    return "RANK" in os.environ


def interrupt_once(_signal: int, _frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt and ignore further signals: Ctrl-C comes from the terminal and once more from torchrun, and the
    second one must not interrupt the cleanup."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _report_user_error(message: str) -> int:
    """Print a user error and return the exit code, which pipeline.launch turns into 1 for a process of torchrun. An error that all
    processes hit is printed once: the others wait and are terminated by torchrun meanwhile."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(OTHERS_WAIT_SECONDS)
    print(f"error: {message}", file=sys.stderr)
    return EXIT_OF_RANK if is_rank() else 1

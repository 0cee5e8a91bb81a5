"""python -m pipeline STAGE --docs … --out … --metrics …: run one stage inside the frame.

A stage that trains may get several processes, each of which runs `main` (pipeline/launch.py).
Exit codes: 0 success, 1 user error (three lines, no traceback; 78 in a process of torchrun), 2 usage, 130 Ctrl-C.
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

from pipeline.frame.errors import EXIT_OF_RANK, UserError
from pipeline.frame.lifetime import die_with_parent
from pipeline.params import STAGES
from pipeline.run import input_names, load_stage, run_stage
from pipeline.workers.map import ENGINES

OTHERS_WAIT_SECONDS = 5.0
SIGNAL_WAIT_SECONDS = 1.0


def parse(argv: list[str]) -> tuple[ModuleType, argparse.Namespace, dict[str, Path]]:
    """The stage, what its command says, and its inputs. Leaves with 2 where the command is wrong."""
    chooser = argparse.ArgumentParser(
        prog="python -m pipeline", description="Run one stage of the pipeline (dvc.yaml has the order)."
    )
    chooser.add_argument("stage", choices=STAGES)
    chosen = chooser.parse_args(argv[:1])
    module = load_stage(chosen.stage)
    parser = argparse.ArgumentParser(
        prog=f"python -m pipeline {chosen.stage}",
        description=module.__doc__,  # what goes in and out, and the memory it takes
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = input_names(module.run)
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH", help="input")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="what the stage makes")
    parser.add_argument("--metrics", type=Path, required=True, metavar="FILE", help="its figures as JSON")
    parser.add_argument(
        "--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="settings (default: params.yaml)"
    )
    parser.add_argument("--engine", choices=ENGINES, help="where maps over shards run (default: process)")
    args = parser.parse_args(argv[1:])
    return module, args, {name: getattr(args, name) for name in names}


def main(argv: list[str] | None = None) -> int:
    """Runs one stage and returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    module, args, inputs = parse(argv)
    if args.engine:
        os.environ["MINIGPT_ENGINE"] = args.engine
    if is_rank():
        die_with_parent(os.getppid())
        signal.signal(signal.SIGINT, _interrupt_once)
    try:
        with patience_with_peers():
            run_stage(module, params_path=args.params, inputs=inputs, out=args.out, metrics_path=args.metrics)
    except UserError as error:
        let_the_first_process_speak()
        print(f"error: {error}", file=sys.stderr)
        return exit_code()
    except ValueError as error:  # `model` speaks to people in plain ValueErrors
        if os.environ.get("MINIGPT_TRACEBACK"):
            raise
        let_the_first_process_speak()
        print(f"error: {argv[0]}: {error} (MINIGPT_TRACEBACK=1 shows where)", file=sys.stderr)
        return exit_code()
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            print(f"{argv[0]}: interrupted; run it again to go on", file=sys.stderr)
        return 130
    return 0


@contextmanager
def patience_with_peers() -> Generator[None]:
    """A lost peer may be the Ctrl-C that reaches this process next, because torchrun passes it on to one after the other, or that
    reached it inside a checkpoint, where torch first wants to tell all the others."""
    try:
        yield
    except RuntimeError:  # of gloo and NCCL
        if is_rank() and not was_interrupted():
            time.sleep(SIGNAL_WAIT_SECONDS)
        if is_rank() and was_interrupted():
            raise KeyboardInterrupt from None
        raise


def was_interrupted() -> bool:
    """Whether `_interrupt_once` has been called."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def is_rank() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def _interrupt_once(_signal: int, _frame: FrameType | None) -> None:
    """Ctrl-C comes from the terminal and once more from torchrun: the second must not meet us while we tidy up."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def exit_code() -> int:
    """Of a person's error. pipeline.launch turns the one of several processes into 1."""
    return EXIT_OF_RANK if is_rank() else 1


def let_the_first_process_speak() -> None:
    """An error that all processes meet is said once: the others wait, and are ended by torchrun while they do."""
    if os.environ.get("RANK", "0") != "0":
        time.sleep(OTHERS_WAIT_SECONDS)


if __name__ == "__main__":
    from pipeline.launch import main as launch

    sys.exit(launch())

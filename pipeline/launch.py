"""python -m pipeline [OPTIONS] STAGE --…: run a stage; a stage that trains runs in one process per device.

Without options: one process per CUDA device; on a CPU one per core up to four, because processes that synchronize once per step do
not wait for each other at every operation, as threads do (1.3 times faster on two idle cores, five times on shared ones).
`MINIGPT_PROCESSES` or `--nproc-per-node` sets another number; all other options are passed to torchrun (`--nnodes`,
`--rdzv-endpoint`, …; docs/cluster.md). The result does not depend on the number of processes, except for the order of sums.

`--sharding full` (or MINIGPT_SHARDING) shards weights, gradients and optimizer state across the processes, for models that don't
fit on one device. When a process dies, all restart from the newest checkpoint, up to `--max-restarts` times (or
MINIGPT_MAX_RESTARTS); a user error ends the run at once.

`--dry-run` checks options and params and prints the command that would be started.
`--profile` writes a trace of three steps to var/profile/ (open it in Perfetto or chrome://tracing).

python -m pipeline.launch plan --help: estimate parameters, memory, hours and cost of a recipe before a run.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.planning.budget import FEWEST_ROWS
from pipeline.command import is_rank, parse_command, run_stage_command
from pipeline.frame.environment import BY_NAME, read, read_count
from pipeline.frame.errors import EXIT_OF_RANK, UserError
from pipeline.frame.lifetime import follow_parent
from pipeline.params import OPTIONAL_STAGES, STAGES, get_section_type, load_stage_params
from pipeline.pretrain.budgeted import count_shared_rows
from pipeline.pretrain.params import Pretrain
from pipeline.workers.map import count_workers

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

MOST_CPU_PROCESSES = 4
USAGE, INTERRUPTED = 2, 130
TRY_AGAIN = 75  # sysexits' EX_TEMPFAIL
FINAL = (EXIT_OF_RANK, USAGE, INTERRUPTED)  # exit codes of a process after which a restart is pointless


def main(argv: list[str] | None = None) -> int:
    """Run a stage and return its exit code."""
    follow_parent()
    argv = sys.argv[1:] if argv is None else argv
    if is_rank():
        return run_stage_command(argv)
    if argv[:1] == ["plan"]:
        return _run_plan(argv[1:])
    at = next((index for index, word in enumerate(argv) if word in (*STAGES, *OPTIONAL_STAGES)), None)
    if at is None:
        is_asked = bool({"-h", "--help"} & set(argv))
        print(__doc__, file=sys.stderr)
        if not is_asked:
            found = f"found: {shlex.join(argv)}" if argv else "nothing was given"
            print(
                f"error: no stage is named\n  {found}\n  to do: give one of {', '.join((*STAGES, *OPTIONAL_STAGES))}",
                file=sys.stderr,
            )
        return 0 if is_asked else USAGE
    try:
        return _launch(argv[:at], argv[at:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{argv[at]}: interrupted; run it again to resume", file=sys.stderr)
        return INTERRUPTED


def _launch(options: list[str], command: list[str]) -> int:
    """Run the command in this process, or in several under torchrun. Return the exit code."""
    ours, options = _take_own(options)
    if not is_training_stage(command[0]) and not (options or ours.dry_run):
        return run_stage_command(command)
    if {"-h", "--help"} & set(command):
        return run_stage_command(command)
    n_processes = (
        choose_n_processes(max(read_batch_rows(command) // _count_nodes(options), 1))
        if is_training_stage(command[0])
        else 1
    )
    torchrun = make_torchrun_options(options, n_processes)
    is_alone = not options and n_processes == 1
    if ours.dry_run:
        return _print_command(command, [] if is_alone else torchrun)
    if is_alone:
        return run_stage_command(command)
    if not _has_option(options, "nproc-per-node"):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(count_workers() // n_processes, 1)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return _run_until_done(torchrun, command, read_count("MINIGPT_MAX_RESTARTS"))


def _print_command(command: list[str], options: list[str]) -> int:
    """Print what would be started. Exits with 2 for an option that torchrun or the stage does not have."""
    parse_command(command)
    if options:
        from torch.distributed import run

        run.parse_args([*options, "-m", "pipeline", *command])
    program = ["torchrun", *options] if options else ["python"]
    print(shlex.join([*program, "-m", "pipeline", *command]))
    return 0


def is_training_stage(stage: str) -> bool:
    """Return whether a stage trains, so that several processes can share its work."""
    return "training" in get_section_type(stage).model_fields


def _run_plan(argv: list[str]) -> int:
    """Run the `plan` command and return its exit code."""
    from pipeline import plan

    try:
        return plan.main(argv)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def choose_n_processes(batch_rows: int) -> int:
    """Return MINIGPT_PROCESSES, else one per CUDA device, else a power of two of cores that divides the batch."""
    if read("MINIGPT_PROCESSES"):
        return read_count("MINIGPT_PROCESSES", least=1)
    import torch

    if torch.cuda.is_available() and read("MINIGPT_DEVICE") != "cpu":
        return torch.cuda.device_count()
    return math.gcd(1 << (min(count_workers(), MOST_CPU_PROCESSES).bit_length() - 1), batch_rows)


def read_batch_rows(command: list[str]) -> int:
    """Return the batch size in rows that the processes of a training stage share, 1 for any other stage. A batch size derived from
    a budget is a power of two and at least `FEWEST_ROWS`; batches that grow are multiples of the result."""
    path = Path(command[command.index("--params") + 1]) if "--params" in command[:-1] else Path("params.yaml")
    section: Any = load_stage_params(path, command[0])
    if not is_training_stage(command[0]):
        return 1
    rows = section.training.batch_rows or FEWEST_ROWS
    return count_shared_rows(section, rows) if isinstance(section, Pretrain) else rows


def _take_own(options: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return our own options and torchrun's. Options that the processes need are put into their environment."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", add_help=False, allow_abbrev=False)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--sharding", choices=BY_NAME["MINIGPT_SHARDING"].choices)
    parser.add_argument("--max-restarts", "--max_restarts")
    ours, options = parser.parse_known_args(options)
    if ours.profile:
        os.environ["MINIGPT_PROFILE"] = "1"
    for name in ("sharding", "max_restarts"):
        if getattr(ours, name) is not None:
            os.environ[f"MINIGPT_{name.upper()}"] = getattr(ours, name)
    read_count("MINIGPT_MAX_RESTARTS")  # report an error now rather than when a process dies
    return ours, options


def make_torchrun_options(options: list[str], n_processes: int) -> list[str]:
    """Return torchrun's options: the given ones, and defaults for those that are missing. Torchrun itself never restarts."""
    if not _has_option(options, "nproc-per-node"):
        options = [f"--nproc-per-node={n_processes}", *options]
    options = ["--max-restarts=0", *options]
    if _has_option(options, "rdzv-endpoint") and not _has_option(options, "rdzv-backend", "node-rank"):
        options = ["--rdzv-backend=c10d", *options]
    if not _has_option(options, "nnodes", "rdzv"):
        options = ["--standalone", *options]
    return options


def _count_nodes(options: list[str]) -> int:
    """Return the largest number of machines: `--nnodes 2`, `--nnodes=1:4`."""
    value = _get_option(options, "nnodes", "1").rpartition(":")[2]
    return int(value) if value.isdigit() and int(value) > 0 else 1  # torchrun reports an invalid value


def _get_option(options: list[str], name: str, otherwise: str) -> str:
    """Return the value of an option, given as `--name value` or `--name=value`."""
    words = [word for option in options for word in option.split("=", 1)]
    names = [word.replace("_", "-") for word in words[:-1]]
    return words[names.index(f"--{name}") + 1] if f"--{name}" in names else otherwise


def _has_option(options: list[str], *names: str) -> bool:
    """Return whether an option starts with one of these names; torchrun treats - and _ in names alike."""
    return any(option.replace("_", "-").startswith(tuple(f"--{name}" for name in names)) for option in options)


def _run_until_done(options: list[str], command: list[str], n_restarts: int) -> int:
    """Run torchrun, and restart it after a process has died; return the exit code. Each attempt has its own rendezvous id, because
    torchrun closes the id of a run that failed."""
    from torch.distributed import run as torchrun  # two seconds of import that one process does not need
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError

    # Otherwise the store of the first attempt stays alive in the launcher with the addresses of its dead processes; a process that
    # is faster than its peers then connects to one of them and dies too. So each attempt gets its own store.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):  # failures are reported below, in one line
            logging.getLogger(name).setLevel(logging.CRITICAL)
    stage, run_id = command[0], _get_option(options, "rdzv-id", "none")
    # Kept alive: their frames hold the store of the first attempt, where other machines may already be waiting.
    failed: list[ChildFailedError] = []
    for attempt in range(n_restarts + 1):
        rendezvous = [] if "--standalone" in options else [f"--rdzv-id={run_id}-{attempt}"]
        try:
            torchrun.main([*options, *rendezvous, "-m", "pipeline", *command])
            return 0
        except ChildFailedError as error:
            failed.append(error)
            code = _report_failure(stage, error.failures, n_restarts - attempt, n_restarts)
        except RendezvousError as error:
            print(
                f"error: {stage}: rendezvous failed, or a machine was lost\n  found: {error}\n  to do: start it again",
                file=sys.stderr,
            )
            return TRY_AGAIN
        except SignalException as error:
            return 128 + int(error.sigval)
        if code is not None:
            return code
    raise AssertionError("the last attempt returns a code")


def _report_failure(stage: str, failures: Mapping[int, ProcessFailure], n_left: int, n_restarts: int) -> int | None:
    """Print why an attempt failed; return the exit code of the run, or None if it is to be restarted."""
    rank, first = min(failures.items(), key=lambda item: item[1].timestamp)
    why = f"was killed by signal {-first.exitcode}" if first.exitcode < 0 else f"exited with {first.exitcode}"
    is_final = any(failure.exitcode in FINAL for failure in failures.values())
    if n_left and not is_final:
        print(
            f"{stage}: process {first.pid} {why}; restarting from the newest checkpoint "
            f"({n_left} of {n_restarts} attempts left)",
            file=sys.stderr,
        )
        return None
    if first.exitcode < 0:  # a killed process can't report anything itself
        print(f"error: {stage}: process {rank} {why}", file=sys.stderr)
    return 1 if first.exitcode <= 0 or first.exitcode == EXIT_OF_RANK else first.exitcode


if __name__ == "__main__":
    sys.exit(main())

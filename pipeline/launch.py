"""python -m pipeline.launch [TORCHRUN OPTIONS] STAGE --… : a stage in as many processes as there are devices.

Without options: one process a CUDA device; on a CPU one for each core up to four, because processes that meet once a step do not
wait for each other at every operation, as threads do (1.3 times faster on two free cores, five times on shared ones).
`MINIGPT_PROCESSES` or `--nproc-per-node` asks for another number; every other option goes to torchrun as it is
(`--nnodes`, `--rdzv-endpoint`, …; docs/cluster.md). However many processes there are, the result is the same up to the order of
sums.

`--sharding full` (or MINIGPT_SHARDING) lets each process hold its part of weights, gradients and state, where a device can't hold
them all. When a process dies, all start again from the newest checkpoint, `--max-restarts` times (or MINIGPT_MAX_RESTARTS;
default 3); an error that a person has to mend ends the run at once.

`--dry-run` says what would be started, after checking options and params.
`--profile` writes a trace of three steps to var/profile/ (open it in Perfetto or chrome://tracing).

python -m pipeline.launch plan --help: parameters, memory, hours and cost of a recipe, before anything runs.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from pathlib import Path

from model.budget import FEWEST_ROWS
from pipeline.__main__ import main as run_stage_command
from pipeline.__main__ import parse
from pipeline.errors import EXIT_OF_RANK, UserError
from pipeline.frame.lifetime import follow_parent
from pipeline.params import load_params
from pipeline.stage import STAGES
from pipeline.workers.map import worker_count

MOST_CPU_PROCESSES = 4
MAX_RESTARTS = 3
USAGE = 2
TRY_AGAIN = 75  # sysexits' EX_TEMPFAIL


def main(argv: list[str] | None = None) -> int:
    """The exit code of the stage."""
    follow_parent()
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["plan"]:
        return _plan(argv[1:])
    at = next((index for index, word in enumerate(argv) if word in STAGES), None)
    if at is None:
        print(__doc__, file=sys.stderr)
        return 0 if {"-h", "--help"} & set(argv) else 2
    ours, options = _take_own(argv[:at])
    command = argv[at:]
    try:
        n_processes = default_processes(max(batch_rows_of(command) // _nodes_of(options), 1))
        torchrun = torchrun_options(options, n_processes)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    is_alone = not options and n_processes == 1
    if ours.dry_run:
        return _say_what(command, [] if is_alone else torchrun)
    if is_alone:
        return run_stage_command(command)
    if not _has(options, "nproc-per-node"):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(worker_count() // n_processes, 1)))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return _torchrun(torchrun, command)


def _say_what(command: list[str], options: list[str]) -> int:
    """Leaves with 2 for an option that torchrun or the stage does not have."""
    parse(command)
    if options:
        from torch.distributed import run

        run.parse_args([*options, "-m", "pipeline", *command])
    print(
        shlex.join(
            ["torchrun", *options, "-m", "pipeline", *command] if options else ["python", "-m", "pipeline", *command]
        )
    )
    return 0


def _plan(argv: list[str]) -> int:
    from pipeline import plan

    try:
        return plan.main(argv)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def default_processes(batch_rows: int) -> int:
    """MINIGPT_PROCESSES, else one a CUDA device, else a power of two of cores that divides the batch."""
    found = os.environ.get("MINIGPT_PROCESSES", "")
    if found:
        if not (found.isdigit() and int(found) > 0):
            raise UserError(
                "MINIGPT_PROCESSES: not a positive number", repr(found), "give a number of processes, or unset it"
            )
        return int(found)
    import torch

    if torch.cuda.is_available() and os.environ.get("MINIGPT_DEVICE", "auto") != "cpu":
        return torch.cuda.device_count()
    return math.gcd(1 << (min(worker_count(), MOST_CPU_PROCESSES).bit_length() - 1), batch_rows)


def batch_rows_of(command: list[str]) -> int:
    """The rows that the processes of a training stage share; 1 for a stage that does not train. A batch that follows from a budget
    is a power of two, and at least `FEWEST_ROWS`."""
    path = Path(command[command.index("--params") + 1]) if "--params" in command[:-1] else Path("params.yaml")
    section = getattr(load_params(path), command[0])
    if not hasattr(section, "training"):
        return 1
    return section.training.batch_rows or FEWEST_ROWS


def _take_own(options: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """What is ours, and what is torchrun's. What the processes have to know goes into their environment."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.launch", add_help=False, allow_abbrev=False)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--sharding", choices=("none", "full"))
    ours, options = parser.parse_known_args(options)
    if ours.profile:
        os.environ["MINIGPT_PROFILE"] = "1"
    if ours.sharding:
        os.environ["MINIGPT_SHARDING"] = ours.sharding
    return ours, options


def torchrun_options(options: list[str], n_processes: int) -> list[str]:
    """What torchrun is given: what stands there, and what is left out."""
    if not _has(options, "nproc-per-node"):
        options = [f"--nproc-per-node={n_processes}", *options]
    if not _has(options, "max-restarts"):
        options = [f"--max-restarts={count_of('MINIGPT_MAX_RESTARTS', MAX_RESTARTS)}", *options]
    if _has(options, "rdzv-endpoint") and not _has(options, "rdzv-backend", "node-rank"):
        options = ["--rdzv-backend=c10d", *options]
    if not _has(options, "nnodes", "rdzv"):
        options = ["--standalone", *options]
    return options


def _nodes_of(options: list[str]) -> int:
    """How many machines there are at most: `--nnodes 2`, `--nnodes=1:4`."""
    words = [word for option in options for word in option.split("=", 1)]
    found = words[words.index("--nnodes") + 1].rpartition(":")[2] if "--nnodes" in words[:-1] else "1"
    return int(found) if found.isdigit() and int(found) > 0 else 1  # torchrun says what is wrong


def _has(options: list[str], *names: str) -> bool:
    """torchrun takes - and _ in names alike."""
    return any(option.replace("_", "-").startswith(tuple(f"--{name}" for name in names)) for option in options)


def count_of(variable: str, otherwise: int) -> int:
    found = os.environ.get(variable) or str(otherwise)
    if not found.isdigit():
        raise UserError(f"{variable}: not a number", repr(found), "give a whole number, or unset it")
    return int(found)


def _torchrun(options: list[str], command: list[str]) -> int:
    from torch.distributed import run as torchrun  # two seconds of import that one process does not need
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous.api import RendezvousError

    # Else the store of the first attempt lives on in the launcher with the addresses of its dead processes, which a process that is
    # quicker than its peers then calls, and dies in its turn. So each attempt gets a store of its own.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    _watch_over(command[0])
    try:
        torchrun.main([*options, "-m", "pipeline", *command])
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:  # killed: it could not say so itself
            print(f"error: {command[0]}: process {rank} was killed by signal {-failure.exitcode}", file=sys.stderr)
        return 1 if failure.exitcode <= 0 or failure.exitcode == EXIT_OF_RANK else failure.exitcode
    except RendezvousError as error:
        print(
            f"error: {command[0]}: the machines do not find each other, or lost one\n  found: {error}\n  to do: start it again",
            file=sys.stderr,
        )
        return TRY_AGAIN
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def _watch_over(stage: str) -> None:
    """torchrun starts everything again after any failure, and says so in its own terms. What a person has to mend would only be met
    again; there is no setting for that, so that the agent that watches the processes gets one: such exit codes use up its attempts.
    """
    from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
    from torch.distributed.launcher import api

    class Agent(LocalElasticAgent):
        def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:  # pyright: ignore[reportIncompatibleVariableOverride]
            result: RunResult = super()._monitor_workers(worker_group)  # pyright: ignore[reportCallIssue]
            if any(failure.exitcode in (EXIT_OF_RANK, USAGE) for failure in result.failures.values()):
                self._remaining_restarts = 0
            elif result.is_failed() and self._remaining_restarts:
                first = min(result.failures.values(), key=lambda failure: failure.timestamp)
                why = f"was killed by signal {-first.exitcode}" if first.exitcode < 0 else f"left with {first.exitcode}"
                print(
                    f"{stage}: process {first.pid} {why}; starting again from the newest checkpoint "
                    f"({self._remaining_restarts} of {worker_group.spec.max_restarts} attempts left)",
                    file=sys.stderr,
                )
            return result

    api.LocalElasticAgent = Agent  # pyright: ignore[reportPrivateImportUsage]


if __name__ == "__main__":
    sys.exit(main())

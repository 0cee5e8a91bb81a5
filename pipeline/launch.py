"""python -m pipeline.launch [TORCHRUN OPTIONS] STAGE --… : a stage in as many processes as there are devices.

Without options: one process a CUDA device, and a single one on CPU, in which case torchrun is not started at all.
`MINIGPT_PROCESSES` or `--nproc-per-node` asks for another number; every other option goes to torchrun as it is
(`--nnodes`, `--rdzv-endpoint`, …). However many processes there are, the result is the same up to the order of sums.
"""

from __future__ import annotations

import os
import sys

from pipeline.__main__ import main as run_stage_command
from pipeline.errors import UserError
from pipeline.stage import STAGES


def main(argv: list[str] | None = None) -> int:
    """The exit code of the stage."""
    argv = sys.argv[1:] if argv is None else argv
    at = next((index for index, word in enumerate(argv) if word in STAGES), None)
    if at is None:
        print(__doc__, file=sys.stderr)
        return 0 if {"-h", "--help"} & set(argv) else 2
    options, command = argv[:at], argv[at:]
    try:
        n_processes = default_processes()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not options and n_processes == 1:
        return run_stage_command(command)
    from torch.distributed import run as torchrun  # two seconds of import that one process does not need

    if not any(option.startswith(("--nproc-per-node", "--nproc_per_node")) for option in options):
        options = [f"--nproc-per-node={n_processes}", *options]
    if not any(option.startswith(("--nnodes", "--rdzv")) for option in options):
        options = ["--standalone", *options]
    torchrun.main([*options, "-m", "pipeline", *command])
    return 0


def default_processes() -> int:
    """MINIGPT_PROCESSES, else one a CUDA device, else one."""
    found = os.environ.get("MINIGPT_PROCESSES", "")
    if found:
        if not (found.isdigit() and int(found) > 0):
            raise UserError(
                "MINIGPT_PROCESSES: not a positive number", repr(found), "give a number of processes, or unset it"
            )
        return int(found)
    import torch

    return max(torch.cuda.device_count(), 1)


if __name__ == "__main__":
    sys.exit(main())

"""python -m service COMMAND: serve an assistant to others, and ask about what it did.

Exit codes: 0 success, 1 user error, 2 usage error, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys

from service.access import key_commands, tenant_commands
from service.errors import ServiceError
from service.feedback import feedback_commands
from service.journal import journal_commands
from service.policy import policy_commands
from service.processes import gateway_commands, part_commands, single_process, supervise
from service.redteam import redteam_commands
from service.tooling import tool_commands

ROOMS = (
    single_process,
    gateway_commands,
    part_commands,
    supervise,
    key_commands,
    tenant_commands,
    policy_commands,
    journal_commands,
    feedback_commands,
    redteam_commands,
    tool_commands,
)  # modules with commands


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__, formatter_class=raw)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for room in ROOMS:
        room.add_commands(subparsers)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, ServiceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

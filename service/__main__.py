"""python -m service COMMAND: serve an assistant to others, and ask about what it did.

Exit codes: 0 success, 1 user error, 2 usage error, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

from service.service_error import ServiceError

ROOMS = {  # module: the commands that it adds; a command imports its own module alone
    "service.processes.single_process": ("serve",),
    "service.processes.gateway_commands": ("gateway",),
    "service.processes.part_commands": ("inference", "retrieval", "tools"),
    "service.processes.supervise": ("supervise",),
    "service.access.key_commands": ("keys",),
    "service.access.tenant_commands": ("tenants",),
    "service.policy.policy_commands": ("policy",),
    "service.journal.journal_commands": ("explain", "why", "erase", "audit"),
    "service.feedback.feedback_commands": ("feedback",),
    "service.redteam.redteam_commands": ("red-team",),
    "service.tooling.tool_commands": ("tools",),
}


def main(argv: list[str] | None = None) -> int:
    """Run a command and return the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__, formatter_class=raw)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    words = sys.argv[1:] if argv is None else argv
    wanted = [room for room, commands in ROOMS.items() if words and words[0] in commands] or list(ROOMS)
    for room in wanted:
        import_module(room).add_commands(subparsers)
    args = parser.parse_args(argv)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except (ValueError, ServiceError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `… | head`: what is still buffered must not fail again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())

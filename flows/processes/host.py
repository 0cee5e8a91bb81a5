"""python -m flows.processes.host NAME APPLICATION --port PORT [--factory]: serve an ASGI application behind `Access`.

In: the name of the server (its policy and its key), the application as module:attribute. Out: a server on 127.0.0.1, until SIGTERM.
One process: Prefect's scheduler must not run twice, and MLflow's default of four workers takes 2.7 GB.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import uvicorn
from uvicorn.importer import import_from_string

from flows.processes.access import POLICIES, Access
from flows.processes.credentials import read_key

HOST = "127.0.0.1"


def main(argv: list[str] | None = None) -> int:
    """Serve until a signal; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.processes.host", description=__doc__)
    parser.add_argument("name", choices=sorted(POLICIES))
    parser.add_argument("application", help="module:attribute")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument(
        "--factory", action="store_true", help="the attribute is a function that returns the application"
    )
    args = parser.parse_args(argv)
    application = import_from_string(args.application)
    application = application() if args.factory else application
    guarded = Access(application, POLICIES[args.name], read_key(Path.cwd(), args.name), args.port)
    server = uvicorn.Config(
        guarded,
        host=HOST,
        port=args.port,
        log_level="error",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=3,  # an open page keeps its connections
    )
    uvicorn.Server(server).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())

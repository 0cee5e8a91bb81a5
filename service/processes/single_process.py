"""python -m service serve: the whole service in one process, for a laptop or one machine.

In: settings, a model folder (the champion by default). Out: the address, on standard output, when the service can answer; then
requests until SIGTERM or Ctrl-C. Everything that the service keeps is in the state folder.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from assistant.inference.model_choice import ModelChoice, choose_model
from service.answers.interfaces import Inference
from service.processes.http_server import bind, run_server
from service.processes.remote_parts import RemoteParts
from service.service_settings import ServiceSettings, add_flags, read_settings


def add_commands(subparsers: Any) -> None:
    """Add the command serve."""
    parser = subparsers.add_parser("serve", help="the whole service in one process", description=__doc__)
    add_flags(parser)
    parser.set_defaults(run=serve)


def serve(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code. Raises: ValueError and ServiceError for user errors."""
    settings = read_settings(args)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    choice = choose_model(settings.model, settings.index, Path()) if not settings.upstream else None
    from service.processes.open_inference import open_inference

    return run_service(settings, choice, lambda: open_inference(settings, choice))


def run_service(
    settings: ServiceSettings,
    choice: ModelChoice | None,
    open_inference: Callable[[], Inference],
    remote: RemoteParts | None = None,
) -> int:
    """Listen, open all parts, serve until a signal. Return the exit code. Raises: ValueError and ServiceError for user errors."""
    from service.access.local_access import check_listening
    from service.app import make_app
    from service.processes.compose_service import compose

    with (
        closing(bind(settings.host, settings.port)) as listener,
        closing(compose(settings, choice, open_inference, remote)) as composition,
    ):
        is_open = composition.access.is_open()
        check_listening(settings.host, is_open, str(settings.state))
        service = composition.service
        host, port = listener.getsockname()[:2]
        about = service.inference.description
        where = f"from {choice.folder}: {choice.reason}" if choice is not None else "elsewhere"
        if remote is not None or settings.upstream:
            where = f"behind {', '.join(settings.upstream) or 'the parts of this service'}"
        print(f"MiniGPT {about.version or about.phase}, {about.n_parameters / 1e6:.2f} M parameters, {where}")
        for note in composition.notes:
            print(f"note: {note}")
        whom = "this machine's users, without keys" if is_open else "whoever has a key"
        print(f"serving http://{f'[{host}]' if ':' in host else host}:{port} for {whom}; Ctrl-C stops it", flush=True)
        answering = service.answering

        def drain() -> None:
            answering.is_draining = True
            print(f"draining: {answering.n_open} answers are still running", file=sys.stderr, flush=True)

        return run_server(
            make_app(service),
            listener,
            on_drain=drain,
            count_open=lambda: answering.n_open,
            drain_seconds=settings.drain_seconds,
            find_refusal=answering.find_refusal,
        )

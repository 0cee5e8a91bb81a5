"""python -m service gateway: everything but the parts that it names by address: API, keys, policies, sessions, journal, page.

    python -m service gateway --inference http://HOST:8101 --inference http://OTHER:8101 --retrieval http://HOST:8102 \\
        --tools http://HOST:8103

In: addresses of parts; several of a kind share the load, and one that dies is routed around. Out: the same answers, to the byte,
as of `python -m service serve`. Without --retrieval documents are searched here, without --tools tools run here; --model names a
champion folder whose folders embed and guard are used here (no weights are loaded).
"""

from __future__ import annotations

import argparse
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from assistant.inference.model_choice import ModelChoice, choose_model
from service.inference.address_pool import check_address
from service.inference.part_client import PartClient
from service.inference.remote_engine import PartInference
from service.processes.part_commands import PORTS, follow_parent
from service.processes.part_protocol import read_token
from service.processes.remote_parts import RemoteParts
from service.processes.retrieval_part import open_remote_documents
from service.processes.single_process import run_service
from service.processes.tools_part import open_remote_tools
from service.service_error import ServiceError
from service.service_settings import add_flags, read_settings

PATIENCE_SECONDS = 60.0  # of a gateway that starts before its parts
PROBE_SECONDS = 1.0  # between two questions to each part
_LOG = logging.getLogger(__name__)


def add_commands(subparsers: Any) -> None:
    """Add the command gateway."""
    form = argparse.RawDescriptionHelpFormatter
    about = "everything but the parts that it names by address"
    parser = subparsers.add_parser("gateway", help=about, description=__doc__, formatter_class=form)
    add_flags(parser)
    for name in PORTS:
        parser.add_argument(f"--{name}", action="append", default=[], metavar="URL", help=f"address of a part {name}")
    parser.set_defaults(run=run_gateway)


def run_gateway(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code. Raises: ValueError, ServiceError for user errors."""
    follow_parent()
    settings, clients = read_settings(args), open_clients(args)
    if "inference" not in clients:
        raise ValueError(
            "--inference is missing; found no address of a model; name one, or run: python -m service serve"
        )
    addresses = ", ".join(f"{name} at {url}" for name in clients for url in getattr(args, name))
    print(f"asking {addresses}", file=sys.stderr, flush=True)
    inference = PartInference.connect(clients["inference"], PATIENCE_SECONDS)
    choice = _choose(settings.model, settings.index, has_documents="retrieval" not in clients)
    remote = RemoteParts(
        open_remote_documents(clients["retrieval"]) if "retrieval" in clients else None,
        open_remote_tools(clients["tools"], PATIENCE_SECONDS) if "tools" in clients else None,
        lambda: find_dead_parts(clients),
    )
    stop_probing = start_probing(clients, inference)
    try:
        return run_service(settings, choice, lambda: inference, remote)
    finally:
        stop_probing()


def open_clients(args: argparse.Namespace) -> dict[str, PartClient]:
    """Return a client for each part that has addresses. Raises: ValueError for a wrong one, or one beyond without a token."""
    clients: dict[str, PartClient] = {}
    for name in PORTS:
        urls = [check_address(url, f"--{name}") for url in getattr(args, name)]
        tokens = [read_token(urlsplit(url).hostname or "", f"--{name} {url[:80]}") for url in urls]
        if urls:
            clients[name] = PartClient(name, urls, tokens[0])
    return clients


def find_dead_parts(clients: Mapping[str, PartClient]) -> dict[str, str]:
    """Return the parts of which no instance works."""
    return {name: "no instance answers" for name, client in clients.items() if not client.pool.n_working}


def start_probing(clients: Mapping[str, PartClient], inference: PartInference) -> Callable[[], None]:
    """Ask all parts all the time how they are, so that /ready and the description are current. Return what ends it."""
    is_over = threading.Event()

    def probe() -> None:
        while not is_over.wait(PROBE_SECONDS):
            for name, client in clients.items():
                client.probe()
                if name == "inference" and client.pool.n_working:
                    try:
                        inference.refresh()
                    except ServiceError as error:
                        _LOG.warning("inference: %s", error)

    thread = threading.Thread(target=probe, name="probe", daemon=True)
    thread.start()

    def stop() -> None:
        is_over.set()
        thread.join(PROBE_SECONDS * 5)

    return stop


def _choose(model: Path | None, index: Path | None, *, has_documents: bool) -> ModelChoice | None:
    """Return the folders that are used here, if there are any: without them sentences are compared by their words."""
    try:
        return choose_model(model, index, Path())
    except ValueError:
        if model is not None or index is not None or has_documents:
            raise
        return None

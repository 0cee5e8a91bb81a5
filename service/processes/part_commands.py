"""python -m service inference | retrieval | tools: rooms of the service as processes of their own, for gateways.

    inference    the model; start as many as there are machines for it
    retrieval    the documents of all tenants: the index, and the collections below the state folder
    tools        declared tools of everybody; those of single tenants (docs/tools.md) run in the gateway

A part trusts whoever has the token MINIGPT_INTERNAL_TOKEN; without one it listens on this machine only. It ends with its running
calls at SIGTERM, and at once when the process that started it (MINIGPT_PARENT) is gone.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import lru_cache
from pathlib import Path
from typing import Any

from assistant.inference.model_choice import CHAMPION, ModelChoice, choose_model
from service.access.caller import LOCAL_TENANT
from service.access.tenant_files import TenantFiles
from service.processes.http_server import bind, run_server
from service.processes.part_protocol import SearchCall, read_token
from service.processes.part_server import PartRoutes, PartState, make_part_app
from service.service_settings import ServiceSettings, add_flags, read_settings

N_WORKERS = 64  # threads of a part; those of replies wait for the engine thread most of the time
PORTS = {"inference": 8101, "retrieval": 8102, "tools": 8103}
PARENT_POLL_SECONDS = 0.5


def add_commands(subparsers: Any) -> None:
    """Add the commands of the parts."""
    abouts = {
        "inference": (run_inference, "the model alone, for gateways"),
        "retrieval": (run_retrieval, "the documents alone, for gateways"),
        "tools": (run_tools, "declared tools alone, for gateways"),
    }
    for name, (run, about) in abouts.items():
        form = argparse.RawDescriptionHelpFormatter
        parser = subparsers.add_parser(name, help=about, description=__doc__, formatter_class=form)
        add_flags(parser, port=PORTS[name])
        parser.set_defaults(run=run)


def run_inference(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code. Raises: ValueError for user errors."""
    from service.inference.local_inference import ChampionWatch
    from service.processes.inference_part import InferencePart
    from service.processes.open_inference import open_local_inference

    with ExitStack() as stack:

        def make_routes(settings: ServiceSettings) -> PartRoutes:
            choice = choose_model(settings.model, settings.index, Path())
            inference = stack.enter_context(closing(open_local_inference(settings, choice)))
            if choice.folder.parent.name == CHAMPION.name:  # another model that is named stays until the end
                watch = stack.enter_context(closing(ChampionWatch(inference, choice.folder)))
                watch.start()
            return InferencePart(inference, lambda: _read_tokenizer(inference.folder), _make_workers()).make_routes()

        return _run_part("inference", args, make_routes)


def run_retrieval(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code. Raises: ValueError for user errors."""
    from service.processes.retrieval_part import RetrievalPart, open_tenant_documents

    def make_routes(settings: ServiceSettings) -> PartRoutes:
        first = choose_model(settings.model, settings.index, Path())

        def choose() -> ModelChoice:
            return choose_model(first.folder.resolve(), settings.index, Path())

        open_documents = open_tenant_documents(choose, TenantFiles(settings.state))
        part = RetrievalPart(open_documents, _make_workers(), first.folder.resolve)
        part.count(SearchCall(LOCAL_TENANT))  # what is wrong with the index is an error now, not of the first search
        return part.make_routes()

    return _run_part("retrieval", args, make_routes)


def run_tools(args: argparse.Namespace) -> int:
    """Run the command. Return the exit code. Raises: ValueError for user errors."""
    from service.processes.tools_part import ToolsPart
    from service.tooling.tool_settings import choose_tools_file, load_tool_settings
    from service.tooling.tooling import Tooling

    with ExitStack() as stack:

        def make_routes(settings: ServiceSettings) -> PartRoutes:
            shared = load_tool_settings(choose_tools_file(settings)).model_copy(update={"tenants": {}})
            tooling = stack.enter_context(closing(Tooling(shared, settings.state)))
            for name, problem in tooling.find_problems().items():
                print(f"note: {name}: {problem}")
            return ToolsPart(tooling.registry, _make_workers()).make_routes()

        return _run_part("tools", args, make_routes)


@lru_cache(2)
def _read_tokenizer(folder: Path) -> str:
    return (folder / "tokenizer.json").read_bytes().decode("utf-8")


def follow_parent() -> None:
    """End this process soon after the one that MINIGPT_PARENT names, if it does; that one restarts what it started."""
    if (parent := os.environ.pop("MINIGPT_PARENT", "")) == "":
        return

    def watch() -> None:
        gone = threading.Event()
        while os.getppid() == int(parent):
            gone.wait(PARENT_POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _make_workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(N_WORKERS, thread_name_prefix="part")


def _run_part(name: str, args: argparse.Namespace, make_routes: Callable[[ServiceSettings], PartRoutes]) -> int:
    """Listen, open the part, serve it until a signal."""
    follow_parent()
    if args.port is None:
        args.port = str(PORTS[name])
    settings = read_settings(args)
    token = read_token(settings.host, "--host")
    listener = bind(settings.host, settings.port)
    try:
        routes = make_routes(settings)
    except BaseException:
        listener.close()
        raise
    host, port = listener.getsockname()[:2]
    print(f"{name} at http://{f'[{host}]' if ':' in host else host}:{port}; Ctrl-C stops it")
    sys.stdout.flush()
    state = PartState()

    def drain() -> None:
        state.is_draining = True

    return run_server(
        make_part_app(routes, token, state),
        listener,
        on_drain=drain,
        count_open=lambda: state.n_open,
        drain_seconds=settings.drain_seconds,
    )

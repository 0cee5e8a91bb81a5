"""Define the environment variables of MiniGPT (name, meaning, default) and read them. None of them changes an artifact.

In: os.environ, read at each call. Out: validated values. An empty variable counts as unset. CONTRIBUTING.md has the same table;
tests/house/test_environment.py compares the two, and checks that no other module reads a MINIGPT_ variable, except for those
that assistant/ and flows/, which import no pipeline code, read themselves.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from pipeline.frame.errors import UserError


class Variable(NamedTuple):
    """Describe one variable. `default` replaces an unset one; `choices` are all valid values, where they can be listed."""

    name: str
    meaning: str
    default: str = ""
    choices: tuple[str, ...] = ()


VARIABLES = (
    Variable(
        "MINIGPT_ENGINE", "where maps over shards run", default="process", choices=("serial", "process", "dask", "ray")
    ),
    Variable("MINIGPT_WORKERS", "number of worker processes (default: the cores this process may use)"),
    Variable("MINIGPT_CLUSTER", "address of a running Dask or Ray cluster (docs/scale.md)"),
    Variable("MINIGPT_SHARE", "folder that the workers of a cluster can read and write (docs/scale.md)"),
    Variable("MINIGPT_FETCHED", "folder that keeps fetched files", default="var/fetched"),
    Variable("MINIGPT_PROCESSES", "number of training processes (default: one per CUDA device; on a CPU up to four)"),
    Variable("MINIGPT_DEVICE", "device to train and evaluate on", default="auto", choices=("auto", "cpu", "cuda")),
    Variable("MINIGPT_COMPILE", "0 disables torch.compile", default="1", choices=("0", "1")),
    Variable(
        "MINIGPT_CHECKPOINT_SECONDS", "seconds between two checkpoints: the most work that a killed run loses", "30"
    ),
    Variable("MINIGPT_KEEP_CHECKPOINTS", "number of newest checkpoints to keep", default="2"),
    Variable("MINIGPT_KEEP_EVERY", "also keep one checkpoint every this many steps (0 = none)", default="0"),
    Variable("MINIGPT_KEEP_BEST", "1 also keeps the checkpoint with the lowest held-out loss", "0", choices=("0", "1")),
    Variable(
        "MINIGPT_SHARDING",
        "full: shard weights, gradients and optimizer state across ranks (docs/cluster.md)",
        default="none",
        choices=("none", "full"),
    ),
    Variable("MINIGPT_TIMEOUT_SECONDS", "seconds that training processes wait for each other", default="600"),
    Variable("MINIGPT_MAX_RESTARTS", "how often training restarts after a process has died", default="3"),
    Variable(
        "MINIGPT_ACTIVATION_CHECKPOINTING",
        "which activations the backward pass recomputes: less memory, more time (docs/training.md)",
        default="none",
        choices=("none", "selective", "full"),
    ),
    Variable("MINIGPT_PROFILE", "1 profiles three training steps into var/profile", default="0", choices=("0", "1")),
    Variable(
        "MINIGPT_COLLECTIONS",
        "folder of the collections of users' documents (read by assistant/ itself)",
        default="var/collections",
    ),
    Variable(
        "MINIGPT_ADAPTERS",
        "folder of the adapters that requests and profiles may name (read by assistant/ itself)",
        default="var/adapters",
    ),
    Variable(
        "MINIGPT_LEARNERS",
        "folder of the logs of a tutor's learners (read by assistant/ itself)",
        default="var/learners",
    ),
    Variable(
        "MINIGPT_HANDOVERS",
        "folder of the conversations that are handed over to a person (read by assistant/ itself)",
        default="var/handovers",
    ),
    Variable("MINIGPT_TOOLS", "folder of Python files with tools (docs/tools.md; read by assistant/ itself)"),
    Variable(
        "MINIGPT_WEIGHTS",
        "weights of the assistant: float32, or on a CPU bfloat16, int8, int4 (read by assistant/ itself)",
        default="float32",
    ),
    Variable(
        "MINIGPT_DATABASE",
        "URL of the service's database, where the settings name none: it may hold a password (read by service/ itself)",
    ),
    Variable(
        "MINIGPT_COUNTERS",
        "URL redis://… of the service's counters, where the settings name none (read by service/ itself)",
    ),
    Variable(
        "MINIGPT_INTERNAL_TOKEN",
        "secret that the service's processes share (docs/processes.md); needed beyond one machine (read by service/ itself)",
    ),
    Variable("MINIGPT_UPSTREAM_KEY", "key for the engines that the setting upstream names (read by service/ itself)"),
    Variable("MINIGPT_KEY", "key that python -m service red-team sends to a service (read by service/ itself)"),
    Variable(
        "MINIGPT_STOP_SECONDS",
        "seconds that a stopped run gets before it is killed (read by flows/ itself)",
        default="8",
    ),
    Variable("MINIGPT_TRACEBACK", "1 shows the traceback of an error", default="0", choices=("0", "1")),
    Variable("MINIGPT_PARENT", "set by the pipeline itself: pid of the process that a child must not outlive"),
    Variable(
        "MLFLOW_TRACKING_URI", "another registry than var/mlflow.db; an HTTP server also gets live training curves"
    ),
    Variable("PREFECT_API_URL", "another Prefect server than the embedded one"),
    Variable("HF_TOKEN", "read by huggingface_hub: access to private repositories"),
    Variable("HF_ENDPOINT", "read by huggingface_hub: another hub", default="https://huggingface.co"),
)
BY_NAME = {variable.name: variable for variable in VARIABLES}


def read(name: str) -> str:
    """Return the value of a variable, or its default. Raises `UserError` for a value that is not one of its choices."""
    variable = BY_NAME[name]
    value = os.environ.get(name) or variable.default
    if variable.choices and value not in variable.choices:
        raise UserError(
            f"{name}: unknown value", repr(value), f"set it to one of {', '.join(variable.choices)}, or unset it"
        )
    return value


def read_flag(name: str) -> bool:
    """Return whether a variable with the choices 0 and 1 is set to 1."""
    return read(name) == "1"


def read_count(name: str, *, least: int = 0) -> int:
    """Return the value of a variable as an integer. Raises `UserError` for anything else, or for less than `least`."""
    value = read(name)
    if not (value.isdecimal() and int(value) >= least):
        kind = "a positive integer" if least else "an integer of 0 or more"
        raise UserError(f"{name}: must be {kind}", repr(value), "correct it, or unset it")
    return int(value)


def read_seconds(name: str) -> float:
    """Return the value of a variable in seconds. Raises `UserError` for text or a negative number."""
    value = read(name)
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{name}: must be a number of seconds, 0 or more", repr(value), "correct it, or unset it")
    return seconds

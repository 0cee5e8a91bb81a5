"""The environment variables of MiniGPT: name, meaning, default. None of them changes an artifact.

In: os.environ, read at each call. Out: checked values. An empty variable counts as unset. CONTRIBUTING.md lists the same table;
tests/house/test_environment.py compares the two, and checks that no module reads a MINIGPT_ variable that is missing here.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from pipeline.frame.errors import UserError


class Variable(NamedTuple):
    """`default` is the text that stands for an unset variable; `choices` are all its values, where they can be listed."""

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
    Variable("MINIGPT_CHECKPOINT_SECONDS", "seconds between two checkpoints, the most work that a kill costs", "30"),
    Variable("MINIGPT_KEEP_CHECKPOINTS", "number of newest checkpoints to keep", default="2"),
    Variable("MINIGPT_KEEP_EVERY", "also keep one checkpoint every this many steps (0 = none)", default="0"),
    Variable("MINIGPT_KEEP_BEST", "1 also keeps the checkpoint with the lowest held-out loss", "0", choices=("0", "1")),
    Variable(
        "MINIGPT_SHARDING",
        "full shards weights, gradients and optimizer state across ranks (docs/cluster.md)",
        default="none",
        choices=("none", "full"),
    ),
    Variable("MINIGPT_TIMEOUT_SECONDS", "how long training processes wait for each other", default="600"),
    Variable("MINIGPT_MAX_RESTARTS", "how often training restarts after a process died", default="3"),
    Variable(
        "MINIGPT_ACTIVATION_CHECKPOINTING",
        "activations that the backward pass recomputes: less memory, more time (docs/training.md)",
        default="none",
        choices=("none", "selective", "full"),
    ),
    Variable("MINIGPT_PROFILE", "1 profiles three training steps into var/profile", default="0", choices=("0", "1")),
    Variable("MINIGPT_WEIGHTS", "float32 or int8: weights of the assistant on a CPU", default="float32"),
    Variable("MINIGPT_STOP_SECONDS", "seconds that a stopped run gets before it is killed", default="8"),
    Variable("MINIGPT_TRACEBACK", "1 shows the traceback of an error", default="0", choices=("0", "1")),
    Variable("MINIGPT_PARENT", "set by the pipeline: pid of the process that a child must not outlive"),
    Variable(
        "MLFLOW_TRACKING_URI", "another registry than var/mlflow.db; an HTTP server also gets live training curves"
    ),
    Variable("PREFECT_API_URL", "another Prefect server than the embedded one"),
    Variable("HF_TOKEN", "read by huggingface_hub: access to private repositories"),
    Variable("HF_ENDPOINT", "read by huggingface_hub: another hub", default="https://huggingface.co"),
)
BY_NAME = {variable.name: variable for variable in VARIABLES}


def read(name: str) -> str:
    """Return the value of a variable, or its default. Raises: `UserError` for a value that is not one of its choices."""
    variable = BY_NAME[name]
    value = os.environ.get(name) or variable.default
    if variable.choices and value not in variable.choices:
        raise UserError(
            f"{name}: unknown value", repr(value), f"set it to one of {', '.join(variable.choices)}, or unset it"
        )
    return value


def read_flag(name: str) -> bool:
    """Return whether a variable with the choices 0 and 1 is 1."""
    return read(name) == "1"


def read_count(name: str, *, least: int = 0) -> int:
    """Return a whole number. Raises: `UserError` for anything else, or less than `least`."""
    value = read(name)
    if not (value.isdecimal() and int(value) >= least):
        kind = "a positive number" if least else "a number"
        raise UserError(f"{name}: not {kind}", repr(value), "set it to a whole number, or unset it")
    return int(value)


def read_seconds(name: str) -> float:
    """Return a number of seconds. Raises: `UserError` for text or a negative number."""
    value = read(name)
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(f"{name}: not a number of seconds", repr(value), "set it to 0 or more, or unset it")
    return seconds

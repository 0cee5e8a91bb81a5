"""The settings of a service: flags of `python -m service serve`, or a YAML file (`--settings FILE`); flags win.

Secrets are no settings: they come from the environment alone (CONTRIBUTING.md lists the variables). Unknown keys and
wrong values are refused with their name.

"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML, YAMLError

MAX_BYTES = 256_000  # of a settings file


def _make_field(default: Any, about: str, **bounds: Any) -> Any:
    return Field(default=default, description=about, **bounds)


class ServiceSettings(BaseModel):
    """What a service is started with."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    host: str = _make_field("127.0.0.1", "address to listen on; without keys loopback only")
    port: int = _make_field(8000, "port; 0 = a free one", ge=0, le=65535)
    model: Path | None = _make_field(None, "model folder (default: the champion, else the newest finished model)")
    index: Path | None = _make_field(None, "index folder (default: beside the model)")
    name: str = _make_field("minigpt", "name of the model in requests", pattern=r"[A-Za-z0-9][\w.-]{0,63}")
    weights: Literal["float32", "bfloat16", "int8", "int4"] = _make_field("float32", "format of the weights in memory")
    state: Path = _make_field(Path("var/service"), "folder of the database, tenants and logs")
    database: str = _make_field("", "URL of the database (default: SQLite in the state folder)")
    counters: str = _make_field("memory", "counters of limits: memory, or a URL redis://…")
    trusted_proxies: list[str] = _make_field([], "addresses or networks of proxies whose X-Forwarded-For is believed")
    policies: Path | None = _make_field(None, "folder of policies (default: those that ship)")
    profiles: Path | None = _make_field(None, "folder of more profiles (*.yaml)")
    tool_settings: Path | None = _make_field(
        None, "file of tool settings (default: tools.yaml in the state folder, if there is one)"
    )
    upstream: list[str] = _make_field([], "addresses of OpenAI-compatible engines instead of a model here")
    slots: int = _make_field(64, "answers that are generated at once", ge=1, le=512)
    queue: int = _make_field(64, "requests that may wait for a slot; more get 429", ge=0, le=10_000)
    deadline_seconds: float = _make_field(60.0, "an answer that has not begun by then gets 503", gt=0, le=3600)
    drain_seconds: float = _make_field(30.0, "SIGTERM: time for answers that are being streamed", ge=0, le=3600)
    max_body_bytes: int = _make_field(1_000_000, "size of a request", ge=1_000, le=100_000_000)
    sessions: int = _make_field(256, "conversations whose state is kept in memory", ge=0, le=100_000)
    otlp: str = _make_field("", "address of an OTLP collector for traces (default: none)")
    mlflow: str = _make_field("", "address of an MLflow server for traces of a sample and of answers with feedback")
    trace_frac: float = _make_field(0.0, "share of answers in that sample", ge=0, le=1)


def add_flags(parser: argparse.ArgumentParser, **defaults: object) -> None:
    """Add a flag for each setting, and --settings. `defaults` are those of a part that differ from the service's."""
    parser.add_argument("--settings", type=Path, metavar="FILE", help="YAML file with settings; flags win")
    for name, field in ServiceSettings.model_fields.items():
        default = defaults.get(name, field.default)
        shown = "" if default in (None, "", []) else f" ({default})"
        options: dict[str, Any] = {"help": f"{field.description}{shown}"}
        if isinstance(field.default, list):
            options["action"] = "append"
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=name.upper(), **options)


def read_settings(args: argparse.Namespace) -> ServiceSettings:
    """Return the settings of a file and of flags. Raises: ValueError that names what is wrong."""
    values = _read_file(args.settings) if args.settings is not None else {}
    flags = {name: getattr(args, name) for name in ServiceSettings.model_fields}
    values |= {name: value for name, value in flags.items() if value is not None}
    try:
        return ServiceSettings.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            known = ", ".join(ServiceSettings.model_fields)
            raise ValueError(
                f"settings.{name}: there is no such setting; found it in the file; use {known}."
            ) from error
        found = repr(problem["input"])[:80]
        raise ValueError(f"settings.{name}: {problem['msg']}; found {found}; correct it.") from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()[:MAX_BYTES].decode("utf-8")
        values: Any = YAML(typ="safe", pure=True).load(text) or {}
    except OSError as error:
        raise ValueError(f"--settings: {path} can't be read; found {error.strerror}; name a YAML file.") from error
    except (UnicodeDecodeError, YAMLError) as error:
        message = " ".join(str(error).split())[:200]
        raise ValueError(f"--settings: {path} is not YAML; found {message}; correct it.") from error
    if not isinstance(values, dict):
        raise ValueError(f"--settings: {path} must have settings by name; found a {type(values).__name__}; correct it.")
    return values

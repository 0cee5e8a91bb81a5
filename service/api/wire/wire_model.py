"""What all wire formats share: strict types, fields that are kept though nobody knows them, and errors.

A field that is not declared is accepted and named in the header X-MiniGPT-Ignored, unless it is one that OpenAI documents and that
we would not honor: those are refused by name (`refuse_known_fields`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.service_error import ServiceError

MAX_TEXT = 200_000  # characters of one text, so that one in ASCII fits into a body of the default size
MAX_IGNORED = 20  # names in the header

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
Label = Annotated[str, StringConstraints(max_length=64)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
ModelName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Metadata = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]],
    Field(max_length=16),
]
Seed = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
TokenId = Annotated[int, Field(ge=0, le=2**31 - 1)]


class WireModel(BaseModel):
    """A part of a request: JSON types are taken literally ("1" is no number), unknown fields are kept."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())


class ReplyModel(BaseModel):
    """A part of a response: exactly the declared fields, so that /openapi.json says what clients get."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ErrorBody(ReplyModel):
    """What is wrong. `param` is the dotted name of the field; `code` is for programs."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(ReplyModel):
    """The body of every error."""

    error: ErrorBody


def list_ignored(part: BaseModel, known: Collection[str] = (), prefix: str = "") -> list[str]:
    """Return the dotted names of fields that nobody knows, in the whole request; `known` ones have neutral values."""
    names = [f"{prefix}{name}" for name in (part.model_extra or {}) if name not in known]
    for field, value in vars(part).items():
        if isinstance(value, BaseModel):
            names += list_ignored(value, known, f"{prefix}{field}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, BaseModel):
                    names += list_ignored(item, known, f"{prefix}{field}[{index}].")
    return names


def format_ignored(names: list[str]) -> str:
    """Return the header's value: at most MAX_IGNORED names, percent-encoded, of 60 characters; "" for the empty name."""
    shown = ", ".join(quote(name[:60], safe="[].")[:60] or '""' for name in names[:MAX_IGNORED])
    return shown + (f", and {len(names) - MAX_IGNORED} more" if len(names) > MAX_IGNORED else "")


def refuse_known_fields(part: BaseModel, refused: Mapping[str, tuple[Any, str]], prefix: str = "") -> None:
    """Refuse fields that OpenAI documents and that would not be honored. `refused`: name → (neutral values, what to do instead).

    Raises: ServiceError 400 that names the field; null and neutral values pass, since leaving them out means the same.
    """
    for name, value in (part.model_extra or {}).items():
        if name in refused and value is not None and value not in refused[name][0]:
            param, instead = f"{prefix}{name}", refused[name][1]
            raise ServiceError(
                400,
                f"{param}: not supported; found {_describe(value)}; {instead}.",
                code="unsupported_parameter",
                param=param,
            )


def _describe(value: Any) -> str:
    if isinstance(value, str | int | float):
        return repr(value)[:60]
    return "an array" if isinstance(value, list) else "an object"


ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorReply, "description": description}
    for status, description in (
        (400, "The request is wrong, or asks for what this model can't do."),
        (401, "No key, or an invalid one."),
        (403, "The key or the policy does not allow it."),
        (404, "There is no such model or profile."),
        (408, "The request did not come in time."),
        (413, "The body is too large."),
        (415, "The body is not JSON in UTF-8."),
        (429, "A limit is reached, or the queue is full; see Retry-After."),
        (500, "The service failed; the message has the request's id."),
        (503, "The service is not ready, or too busy; see Retry-After."),
    )
}

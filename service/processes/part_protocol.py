"""What the parts of a service say to each other over HTTP: JSON in, one JSON value per line out.

    {"item": …}            an item of the answer       {"error": {…}}    how it failed
    {}                     a sign of life              {"end": true}     the end: an answer without it is not whole

In: values of the seams (messages, events, requests, results of searches). Out: bytes, and back: the same values, floats to the last
bit. Whoever knows the token may call a part, and for any tenant, so each part listens on loopback only where there is none.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import os
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from assistant.conversation.events import (
    Citation,
    Done,
    Message,
    Notice,
    Recalled,
    ReplyOptions,
    Sampling,
    TextPiece,
    ToolCall,
)
from assistant.tools.toolbox import Search
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import DirectPiece
from service.service_error import ServiceError

T = TypeVar("T")
TOKEN_VARIABLE = "MINIGPT_INTERNAL_TOKEN"
MIN_TOKEN_CHARS = 16
MAX_BODY_BYTES = 32_000_000  # of a call: a conversation, or a tool's argument
LIFE_SECONDS = 1.0  # between two lines at most
SILENCE_SECONDS = (
    10.0  # after which a part without a line is dead: its machine is, since a killed process closes its connections
)
ITEMS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (TextPiece, Citation, Recalled, ToolCall, Notice, Done, DirectPiece)
}
END = b'{"end":true}\n'
LIFE = b"{}\n"


@dataclass(frozen=True)
class ReplyCall:
    """A reply that a session asks an engine for. `cache` names the conversation's cache, which stays where the engine is."""

    tenant: str
    adapter: str
    cache: str
    messages: tuple[Message, ...] = ()
    text: str | None = None  # to continue, instead of messages
    sampling: Sampling = field(default_factory=Sampling)
    options: ReplyOptions | None = None


@dataclass(frozen=True)
class DirectCall:
    """A direct answer that is asked for."""

    request: AnswerRequest
    choice: int = 0


@dataclass(frozen=True)
class SearchCall:
    """A question to the documents of a tenant: `search`, `covers` or `list_answering`."""

    tenant: str
    collections: tuple[str, ...] = ()
    has_documentation: bool = True
    query: str = ""
    limit: int = 3
    question: str = ""
    found: Search | None = None


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _get_adapter(kind: Any) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def encode(value: Any) -> bytes:
    """Return a value of the seams as JSON."""
    return _get_adapter(type(value)).dump_json(value)


def decode(kind: type[T], body: bytes) -> T:
    """Return the value. Raises: ServiceError 400 for anything else."""
    try:
        return _get_adapter(kind).validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, problem["loc"]))
        message = f"{name or 'the body'} is not what this part reads; found {problem['msg'][:80]}; run the same version everywhere."
        raise ServiceError(400, message, code="invalid_internal_call") from None


def encode_item(item: Any) -> bytes:
    """Return the line of an item."""
    return b'{"item":%s,"kind":"%s"}\n' % (encode(item), type(item).__name__.encode())


def encode_error(error: ServiceError) -> bytes:
    """Return the line of an error."""
    about = {
        "status": error.status,
        "message": error.message,
        "code": error.code,
        "param": error.param,
        "retry_after": error.retry_after,
    }
    return json.dumps({"error": about}).encode() + b"\n"


def read_error(about: Any) -> ServiceError:
    """Return the error of a line, or of a body that another part has sent."""
    fields: dict[str, Any] = about if isinstance(about, dict) else {}
    status, message = fields.get("status"), fields.get("message")
    if not isinstance(status, int) or not isinstance(message, str):
        return ServiceError(502, "a part answered what is no answer; found no error in it; see its log.", "bad_part")
    return ServiceError(status, message, fields.get("code"), fields.get("param"), fields.get("retry_after"))


def decode_line(line: bytes) -> tuple[str, Any]:
    """Return (what, value) of a line: item, end, life; raise the error that it states."""
    try:
        row: Any = json.loads(line)
    except ValueError:
        raise read_error(None) from None
    if not isinstance(row, dict):
        raise read_error(None)
    if "error" in row:
        raise read_error(row["error"])
    if "item" in row:
        kind = ITEMS.get(row.get("kind", ""))
        if kind is None:
            raise read_error(None)
        return "item", _get_adapter(kind).validate_python(row["item"])
    return ("end", None) if row.get("end") else ("life", None)


def read_token(host: str, name: str) -> str:
    """Return the token of the environment. Raises: ValueError for a weak one, or none where others can reach the host."""
    token = os.environ.get("MINIGPT_INTERNAL_TOKEN", "")
    if token and (len(token) < MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable() or " " in token):
        raise ValueError(
            f"{TOKEN_VARIABLE} must have {MIN_TOKEN_CHARS} printable ASCII characters at least; found {len(token)}; make one with: "
            "openssl rand -hex 32"
        )
    if not token and not is_loopback(host):
        raise ValueError(
            f"{name} is beyond this machine and there is no token; found {host[:80]}; set {TOKEN_VARIABLE} to the same secret "
            "everywhere, or use 127.0.0.1."
        )
    return token


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine itself."""
    host = host.strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_token(header: str, token: str) -> bool:
    """Return whether an Authorization header has the token, in constant time; without a token anybody may call."""
    return not token or hmac.compare_digest(header.encode("utf-8", "replace"), f"Bearer {token}".encode())

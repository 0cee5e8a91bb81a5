"""Read the messages of a chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assistant.conversation.events import Message, ToolCall
from service.api.http.strict_json import parse_json
from service.api.wire.chat_wire import AssistantWire, RefusalPart, ToolWire, WireMessage
from service.api.wire.refuse_field import refuse
from service.api.wire.wire_model import refuse_known_fields
from service.service_error import ServiceError

REFUSED_MESSAGE: dict[str, tuple[Any, str]] = {
    "name": (("",), "leave it out; write the name into the text"),
    "audio": ((), "send text"),
    "function_call": ((), "use tool_calls"),
    "prefix": ((False,), "end messages with a user message"),
}


def read_messages(rows: Sequence[WireMessage]) -> tuple[Message, ...]:
    """Return the conversation. Raises: ServiceError 400, also for one that does not end with something to answer."""
    messages: list[Message] = []
    for index, row in enumerate(rows):
        refuse_known_fields(row, REFUSED_MESSAGE, f"messages[{index}].")
        messages += _read_message(row, f"messages[{index}]")
    if rows[-1].role not in ("user", "tool"):
        raise refuse(
            "messages", "must end with a message to answer", f"role {rows[-1].role}", "end with a user message"
        )
    return tuple(messages)


def _read_message(row: WireMessage, param: str) -> list[Message]:
    if isinstance(row, ToolWire):
        return [Message.result(_join(row.content), row.tool_call_id)]
    if not isinstance(row, AssistantWire):
        return [Message.of("user" if row.role == "user" else "system", _join(row.content))]
    calls = [
        Message.calling(
            ToolCall(
                call.id, call.function.name, read_arguments(call.function.arguments, f"{param}.tool_calls[{index}]")
            )
        )
        for index, call in enumerate(row.tool_calls or [])
    ]
    text = _join(row.content or "") + (row.refusal or "")
    return [Message.of("assistant", text), *calls] if text or not calls else calls


def read_arguments(arguments: str, param: str) -> dict[str, Any]:
    """Return the arguments of a call in the history. Raises: ServiceError 400 for anything but a JSON object."""
    try:
        value = parse_json(arguments.encode("utf-8")) if arguments.strip() else {}
    except ServiceError as error:
        raise ServiceError(
            400,
            error.message.replace("body", f"{param}.function.arguments", 1),
            error.code,
            f"{param}.function.arguments",
        ) from None
    if not isinstance(value, dict):
        raise refuse(
            f"{param}.function.arguments", "must be a JSON object", type(value).__name__, "send an object as text"
        )
    return value


def _join(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in content)

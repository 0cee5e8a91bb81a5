"""Servers that answer at once, so that what is left is the time of the gateway or of the service itself.

python -m benchmarks.serving.instant_servers engine                  an OpenAI-compatible engine
python -m benchmarks.serving.instant_servers service STATE_FOLDER    our whole service over a model that answers at once
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from assistant.conversation.events import Done, Message
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import DirectPiece, ModelDescription
from service.api.http.http_protocol import HttpProtocol
from service.processes.single_process import run_service
from service.service_settings import ServiceSettings

N_TOKENS = 16
COMMON = {"id": "chatcmpl-instant", "created": 1, "model": "minigpt"}
USAGE = {"prompt_tokens": 8, "completion_tokens": N_TOKENS, "total_tokens": 8 + N_TOKENS}
MODELS = {
    "object": "list",
    "data": [{"id": "minigpt", "object": "model", "created": 1, "owned_by": "us", "max_model_len": 4_096}],
}


def _format_chunk(delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return b"data: " + json.dumps({**COMMON, "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


MESSAGE = {"role": "assistant", "content": "".join(f" word{number}" for number in range(N_TOKENS))}
WHOLE = json.dumps(
    {
        **COMMON,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
STREAM = b"".join(
    [
        _format_chunk({"role": "assistant", "content": ""}),
        *(_format_chunk({"content": f" word{number}"}) for number in range(N_TOKENS)),
        _format_chunk({}, "stop"),
        b"data: "
        + json.dumps({**COMMON, "object": "chat.completion.chunk", "choices": [], "usage": USAGE}).encode()
        + b"\n\n",
        b"data: [DONE]\n\n",
    ]
)


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request: a plain ASGI application, which costs as little as can be."""
    if scope["type"] != "http":
        return
    body, has_more = b"", True
    while has_more:
        message = await receive()
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
    is_stream = b'"stream":true' in body.replace(b": ", b":")
    content, kind = (STREAM, b"text/event-stream") if is_stream else (WHOLE, b"application/json")
    if scope["method"] == "GET":
        content = json.dumps(MODELS).encode()
    headers = [(b"content-type", kind), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


class InstantInference:
    """Answers sixteen words, without a model."""

    description = ModelDescription("minigpt", "1", "none", 4_096, 8_192, 0, "none", {"code": "none"})

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncIterator[DirectPiece]:
        """Yield the words and the end."""
        for number in range(N_TOKENS):
            yield DirectPiece(f" word{number}")
        yield DirectPiece(done=Done(8, N_TOKENS, 0.0, 0.0, "end"))

    def get_engine(self, tenant: str, adapter: str = "") -> Any:
        """There are no sessions."""
        raise NotImplementedError

    def count_tokens(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    def count_message(self, message: Message) -> int:
        """Return the number of words and the turn's frame."""
        return len(message.text.split()) + 2

    def tokenize(self, text: str) -> list[int]:
        """Return a token per word."""
        return list(range(len(text.split())))

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return a word per token."""
        return " ".join("word" for _ in ids)


def run_engine() -> int:
    """Print the address and serve the engine."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"serving http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(answer, http=HttpProtocol, log_level="critical", access_log=False)).run([listener])
    return 0


if __name__ == "__main__":
    is_engine = sys.argv[1] == "engine"
    sys.exit(
        run_engine()
        if is_engine
        else run_service(ServiceSettings(port=0, state=Path(sys.argv[2])), None, InstantInference)
    )

"""An OpenAI-compatible engine that answers at once: what a gateway in front of it takes is the gateway's own time.

python -m benchmarks.serving.instant_engine      prints its address
"""

from __future__ import annotations

import json
import socket
import sys
from typing import Any

import uvicorn

from service.api.http.http_protocol import HttpProtocol

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


if __name__ == "__main__":
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"serving http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(answer, http=HttpProtocol, log_level="critical", access_log=False)).run([listener])
    sys.exit(0)

"""A stand-in for the service that streams scripted answers, so that the page's tests decide what happens when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.responses import JSONResponse, StreamingResponse

from service.page.page_routes import make_router

# A step of an answer: text, an event of `minigpt`, seconds to wait, an event to wait for, raw bytes, CUT (the connection breaks).
CUT = "\0cut"
Step = str | dict[str, Any] | float | threading.Event | bytes


@dataclass
class Failure:
    """An HTTP error instead of an answer."""

    status: int
    message: str = "That failed."
    headers: dict[str, str] = field(default_factory=dict[str, str])


class PageDouble:
    """What the double answers, and what it was asked."""

    def __init__(self) -> None:
        self.replies: deque[Sequence[Step] | Failure] = deque()
        self.requests: list[dict[str, Any]] = []
        self.feedback: list[dict[str, Any]] = []
        self.memories: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.n_cancelled = 0
        self.key, self.user, self.is_down = "", "ada", False
        self.desks: list[dict[str, str]] = []
        self.data: dict[str, Any] = {}
        self.url = ""

    def ask(self, *steps: Step) -> None:
        """Script the next answer."""
        self.replies.append(steps)

    def list_prompts(self) -> list[list[str]]:
        """Return the texts of each request's messages."""
        return [[message["content"] for message in request["messages"]] for request in self.requests]


def make_chunk(
    delta: dict[str, Any] | None = None, extra: dict[str, Any] | None = None, reason: str | None = None
) -> bytes:
    """Return a chunk of a stream as the service writes it."""
    chunk: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "minigpt"}
    chunk["choices"] = [{"index": 0, "delta": delta or {}, "finish_reason": reason}]
    if extra is not None:
        chunk["minigpt"] = extra
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n".encode()


async def stream_steps(double: PageDouble, steps: Sequence[Step], number: int) -> AsyncIterator[bytes]:
    """Yield the bytes of a scripted answer."""
    try:
        yield make_chunk(
            {"role": "assistant", "content": ""},
            {"type": "start", "answer": f"ans_{number}", "version": "7", "mode": "assistant"},
        )
        for step in steps:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, threading.Event):
                while not step.is_set():
                    await asyncio.sleep(0.01)
            elif isinstance(step, bytes):
                yield step
            elif isinstance(step, dict):
                yield make_chunk(extra=step)
            elif step == CUT:
                return
            else:
                yield make_chunk({"content": step})
        yield make_chunk(reason="stop")
        yield b"data: [DONE]\n\n"
    except asyncio.CancelledError:
        double.n_cancelled += 1
        raise


MODELS = [
    {
        "id": "minigpt",
        "object": "model",
        "minigpt": {"name": "Documentation", "examples": ["What does numpy.sum do?", "17 * 23"]},
    },
    {
        "id": "minigpt/tutor",
        "object": "model",
        "minigpt": {"name": "Tutor", "greeting": "I explain what the course says.", "examples": []},
    },
    {"id": "minigpt/direct", "object": "model"},
]


def make_double_app(double: PageDouble) -> FastAPI:
    """Return the application of the double: the real routes of the page, scripted ones for the rest."""
    app = FastAPI()
    app.include_router(make_router())

    @app.middleware("http")
    async def check_key(request: Request, proceed: Any) -> Response:  # pyright: ignore[reportUnusedFunction]
        double.paths.append(request.url.path)
        if double.is_down and request.url.path.startswith("/v1/"):
            return _fail(Failure(503, "Restarting.", {"Retry-After": "1"}))
        needs_key = double.key and request.url.path.startswith("/v1/")
        if needs_key and request.headers.get("authorization") != f"Bearer {double.key}":
            return _fail(Failure(401, "No such key."))
        return await proceed(request)

    @app.get("/v1/me")
    async def send_me() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return {"tenant": "acme", "user": double.user, "role": "user", "has_memory": True, "desks": double.desks}

    @app.get("/v1/models")
    async def send_models() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return {"object": "list", "data": MODELS}

    @app.post("/v1/chat/completions")
    async def answer(request: Request) -> Response:  # pyright: ignore[reportUnusedFunction]
        double.requests.append(await request.json())
        reply = double.replies.popleft() if double.replies else ("An answer.",)
        if isinstance(reply, Failure):
            return _fail(reply)
        return StreamingResponse(stream_steps(double, reply, len(double.requests)), media_type="text/event-stream")

    @app.post("/v1/feedback", status_code=201)
    async def keep_feedback(request: Request) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        double.feedback.append(await request.json())
        return {}

    @app.get("/v1/memories")
    async def send_memories() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return {"data": double.memories}

    @app.delete("/v1/memories/{number}", status_code=204)
    async def forget(number: int) -> None:  # pyright: ignore[reportUnusedFunction]
        double.memories = [each for each in double.memories if each["number"] != number]

    @app.api_route("/v1/{path:path}", methods=["GET", "POST"])
    async def send_data(path: str, request: Request) -> Any:  # pyright: ignore[reportUnusedFunction]
        if request.method == "POST":
            double.feedback.append({"path": path, **await request.json()})
        found = double.data.get(path)
        return _fail(Failure(404, "No such thing.")) if found is None else found

    return app


def _fail(failure: Failure) -> JSONResponse:
    error = {"message": failure.message, "type": "error", "param": None, "code": None}
    return JSONResponse({"error": error}, failure.status, failure.headers)


@contextlib.contextmanager
def serve_app(app: Any) -> Generator[str]:
    """Serve an application on a free port of loopback; yield its address."""
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()

"""Calls of curl, as documentation shows them."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.service.api.clients.check_list import Target, check

CLIENT = "curl"


def curl(target: Target, path: str, body: Any = None, *flags: str) -> str:
    words = [
        "curl",
        "-sS",
        "--max-time",
        "60",
        "-H",
        f"Authorization: Bearer {target.key}",
        *flags,
        f"{target.url}{path}",
    ]
    if body is not None:
        words += ["--json", json.dumps(body)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def chat(target: Target, **settings: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hello"}]
    return {"model": target.model, "messages": messages, "max_tokens": 12, **settings}


@check(CLIENT, "chat")
def answer(target: Target) -> None:
    reply = json.loads(curl(target, "/chat/completions", chat(target)))
    assert reply["choices"][0]["message"]["content"]


@check(CLIENT, "stream")
def stream(target: Target) -> None:
    lines = [line for line in curl(target, "/chat/completions", chat(target, stream=True), "-N").splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: "))["object"] for line in lines[:-1])


@check(CLIENT, "completions")
def completion(target: Target) -> None:
    body = {"model": target.model, "prompt": "The list of", "max_tokens": 4}
    assert json.loads(curl(target, "/completions", body))["choices"][0]["text"]


@check(CLIENT, "responses")
def response(target: Target) -> None:
    reply = json.loads(curl(target, "/responses", {"model": target.model, "input": "Hello"}))
    assert reply["output"][0]["content"][0]["text"]


@check(CLIENT, "embeddings")
def embedding(target: Target) -> None:
    reply = json.loads(curl(target, "/embeddings", {"model": target.model, "input": ["matrix"]}))
    assert reply["data"][0]["embedding"]


@check(CLIENT, "rerank")
def rerank(target: Target) -> None:
    body = {"model": target.model, "query": "matrix", "documents": ["river", "matrix"], "return_documents": True}
    reply = json.loads(curl(target, "/rerank", body))
    assert reply["results"][0]["document"] == {"text": "matrix"}


@check(CLIENT, "models")
def models(target: Target) -> None:
    assert any(row["id"] == target.model for row in json.loads(curl(target, "/models"))["data"])


@check(CLIENT, "errors")
def not_json(target: Target) -> None:
    words = ("-X", "POST", "-H", "Content-Type: application/json", "-d", "{", "-w", "%{http_code}")
    reply = curl(target, "/chat/completions", None, *words)
    assert reply.endswith("400")
    assert json.loads(reply[:-3])["error"]["code"] == "invalid_json"


@check(CLIENT, "headers")
def head_of_an_answer(target: Target) -> None:
    head = curl(target, "/chat/completions", chat(target), "-D", "-", "-o", "/dev/null").lower()
    assert "content-type: application/json" in head

"""Calls of OpenAI's client for Node, where Node finds the package `openai` (NODE_PATH)."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.service.api.clients.check_list import Target, check

CLIENT = "openai for Node"
PRELUDE = """
const { OpenAI, NotFoundError } = require("openai");
const assert = require("node:assert");
const [, url, model, apiKey] = process.argv;
const client = new OpenAI({ baseURL: url, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Hello" }];
const ask = (more) => client.chat.completions.create({ model, messages, max_tokens: 60, temperature: 0, ...more });
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "get_weather", parameters } }];
(async () => {
"""


def has_package() -> bool:
    """Return whether Node is there and finds the package."""
    try:
        return subprocess.run(["node", "-e", 'require("openai")'], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def run(target: Target, script: str) -> Any:
    words = ["node", "-e", f"{PRELUDE}{script}}})();", target.url, target.model, target.key]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    return json.loads(done.stdout or "null")


@check(CLIENT, "chat")
def answer(target: Target) -> None:
    run(target, "const r = await ask({}); assert(r.choices[0].message.content); assert(r.usage.total_tokens > 0);")


@check(CLIENT, "stream")
def stream(target: Target) -> None:
    run(
        target,
        """
        let text = "", usage = null;
        for await (const chunk of await ask({ stream: true, stream_options: { include_usage: true } })) {
          text += chunk.choices[0]?.delta?.content ?? ""; usage = chunk.usage ?? usage;
        }
        assert.equal(text, (await ask({})).choices[0].message.content); assert(usage.total_tokens > 0);
        """,
    )


@check(CLIENT, "stream")
def stream_aborted(target: Target) -> None:
    run(target, "const s = await ask({ stream: true }); for await (const _ of s) { s.controller.abort(); }")


@check(CLIENT, "choices")
def choices(target: Target) -> None:
    run(target, "assert.equal((await ask({ n: 2 })).choices.length, 2);")


@check(CLIENT, "json")
def json_schema(target: Target) -> None:
    run(
        target,
        """
        const schema = { type: "object", properties: { ok: { type: "boolean" } }, required: ["ok"] };
        const r = await ask({ response_format: { type: "json_schema", json_schema: { name: "a", schema } } });
        assert.equal(typeof JSON.parse(r.choices[0].message.content).ok, "boolean");
        """,
    )


@check(CLIENT, "tools")
def tool_call(target: Target) -> None:
    run(
        target,
        """
        const r = await ask({ tools, tool_choice: "required" });
        assert.equal(r.choices[0].finish_reason, "tool_calls");
        assert.equal(r.choices[0].message.tool_calls[0].function.name, "get_weather");
        """,
    )


@check(CLIENT, "completions")
def completion(target: Target) -> None:
    run(
        target,
        'const r = await client.completions.create({ model, prompt: "The", max_tokens: 4 }); assert(r.choices[0].text);',
    )


@check(CLIENT, "responses")
def response(target: Target) -> None:
    run(
        target,
        """
        const first = await client.responses.create({ model, input: "Hello" }); assert(first.output_text);
        const kinds = [];
        for await (const e of await client.responses.create({ model, input: "Again", stream: true,
          previous_response_id: first.id })) kinds.push(e.type);
        assert(["response.completed", "response.incomplete"].includes(kinds.at(-1)));
        """,
    )


@check(CLIENT, "embeddings")
def embedding(target: Target) -> None:
    run(
        target,
        """
        const r = await client.embeddings.create({ model, input: ["matrix", "river"] });
        const f = await client.embeddings.create({ model, input: ["matrix", "river"], encoding_format: "float" });
        assert.deepEqual(Array.from(r.data[0].embedding), f.data[0].embedding);
        """,
    )


@check(CLIENT, "models")
def models(target: Target) -> None:
    run(
        target,
        """
        const ids = []; for await (const m of client.models.list()) ids.push(m.id);
        assert(ids.includes(model));
        """,
    )


@check(CLIENT, "errors")
def wrong_model(target: Target) -> None:
    run(
        target,
        """
        await assert.rejects(client.chat.completions.create({ model: "none", messages }),
          (e) => e instanceof NotFoundError && e.code === "model_not_found");
        """,
    )

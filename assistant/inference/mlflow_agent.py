"""mlflow models serve -m var/champion/package --env-manager local: serve the assistant over HTTP (`make invocations` checks first).

A models-from-code script: MLflow runs this file and uses the model that it sets. In: a request of the Responses API,
`{"input": [{"role": "user", "content": "What is 12 * 7?"}], "custom_inputs": {"temperature": 0.5, "seed": 1}}`. Out:
the items of the answer: tool calls, their results, the text. The model folder is the artifact `model`, the folders for
search_docs are the artifacts `index` and `embed`; tools run in this process. `{"custom_inputs": {"adapter": "support"}}` chooses an
adapter of this model in the folder MINIGPT_ADAPTERS, for this request.

Covers: a request controls sampling and adapter and nothing else; unknown settings and input types are refused by name.
Does not cover: authentication and rate limits. Put a proxy in front of it before you expose it to a network.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Generator, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModelContext, ResponsesAgent
from mlflow.types.responses import ResponsesAgentRequest, ResponsesAgentResponse, ResponsesAgentStreamEvent

from assistant.conversation.events import (
    Citation,
    Done,
    Event,
    Message,
    Notice,
    Sampling,
    TextPiece,
    ToolCall,
    ToolResult,
)
from assistant.conversation.session import Session
from assistant.inference.adapters import AdapterEngines, get_adapters_folder
from assistant.inference.local import ModelEngine, read_argument, read_content
from assistant.tools.toolbox import Tools, make_tools

Item = dict[str, Any]
ADAPTER = "adapter"  # of custom_inputs


class MiniGPTAgent(ResponsesAgent):
    """A stateless agent: each request has its own history."""

    def __init__(self) -> None:
        self._loaded: tuple[AdapterEngines, Tools] | None = None

    def load_context(self, context: PythonModelContext) -> None:
        """Load model and tools. Raises: ValueError for a missing or damaged model folder, or an index of an earlier version."""
        folder = Path(str(context.artifacts["model"]))
        engine = ModelEngine.load(folder)
        engine.wait()  # the server reports that it is up only when it can answer
        embed = context.artifacts.get("embed")  # versions published before there was one have none
        tools = make_tools(Path(str(context.artifacts["index"])), None if embed is None else Path(str(embed)))
        tools.run("search_docs", "compile the kernels of search")
        self._loaded = AdapterEngines(engine, get_adapters_folder()), tools

    def predict(self, request: ResponsesAgentRequest) -> ResponsesAgentResponse:
        """Return the whole answer."""
        answer = _Answer()
        for _ in answer.stream(self._answer(request)):
            pass
        return answer.response()

    def predict_stream(self, request: ResponsesAgentRequest) -> Generator[ResponsesAgentStreamEvent, None, None]:
        """Yield the answer's items and text deltas as they are generated, finally the whole response."""
        answer = _Answer()
        for event in answer.stream(self._answer(request)):
            yield ResponsesAgentStreamEvent.model_validate(event)
        completed = {"type": "response.completed", "response": answer.response().model_dump(exclude_none=True)}
        yield ResponsesAgentStreamEvent.model_validate(completed)

    def _answer(self, request: ResponsesAgentRequest) -> Iterator[Event]:
        assert self._loaded is not None, "load_context must be called first"
        engines, tools = self._loaded
        try:
            sampling, engine = read_sampling(request), engines.get(read_adapter(request))
            system, history = read_messages([item.model_dump(exclude_none=True) for item in request.input])
            yield from Session(engine, tools, system=system, history=history).respond(sampling)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


class _Answer:
    """Converts events to stream events of the Responses API, and collects them for the final response."""

    def __init__(self) -> None:
        self._output: list[Item] = []
        self._text: list[str] = []
        self._text_id, self._call_id = _make_id("msg"), ""
        self._done: list[Done] = []
        self._notices: list[str] = []
        self._citations: list[Item] = []

    def stream(self, events: Iterator[Event]) -> Iterator[Item]:
        for event in events:
            if isinstance(event, TextPiece):
                self._text.append(event.text)
                yield ResponsesAgent.create_text_delta(event.text, self._text_id)
            elif isinstance(event, ToolCall):
                self._call_id = _make_id("call")
                arguments = json.dumps(dict(event.arguments), ensure_ascii=False)
                yield self._add(
                    ResponsesAgent.create_function_call_item(_make_id("fc"), self._call_id, event.name, arguments)
                )
            elif isinstance(event, ToolResult):
                yield self._add(ResponsesAgent.create_function_call_output_item(self._call_id, event.text))
            elif isinstance(event, Notice):
                self._notices.append(event.text)
            elif isinstance(event, Citation):
                self._citations.append(asdict(event))
            elif isinstance(event, Done):
                self._done.append(event)
        yield self._add(ResponsesAgent.create_text_output_item("".join(self._text), self._text_id))

    def response(self) -> ResponsesAgentResponse:
        n_input, n_output = sum(done.n_prompt_tokens for done in self._done), sum(done.n_tokens for done in self._done)
        last = self._done[-1] if self._done else Done(0, 0, 0.0, 0.0, "end")  # none if code alone has answered
        usage = {
            "input_tokens": n_input,
            "input_tokens_details": {"cached_tokens": sum(done.n_cached_tokens for done in self._done)},
            "output_tokens": n_output,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": n_input + n_output,
        }
        about = {
            "reason": last.reason,
            "tokens_per_second": last.tokens_per_second,
            "first_token_seconds": last.first_token_seconds,
            "notices": self._notices,
            "citations": self._citations,
        }
        fields = {"output": self._output, "usage": usage, "status": "completed", "custom_outputs": about}
        return ResponsesAgentResponse.model_validate(fields)

    def _add(self, item: Item) -> Item:
        self._output.append(item)
        return {"type": "response.output_item.done", "item": item, "output_index": len(self._output) - 1}


def read_sampling(request: ResponsesAgentRequest) -> Sampling:
    """Return the sampling settings: the request's fields temperature, top_p, max_output_tokens, overridden by `custom_inputs`.

    Raises: ValueError for a setting that is unknown or out of range.
    """
    names = {field.name for field in fields(Sampling)}
    custom = {name: value for name, value in (request.custom_inputs or {}).items() if name != ADAPTER}
    if unknown := sorted(custom.keys() - names):
        raise ValueError(
            f"custom_inputs has unknown settings; found {', '.join(unknown)}; use {', '.join(sorted({*names, ADAPTER}))}."
        )
    standard = {"temperature": request.temperature, "top_p": request.top_p, "max_tokens": request.max_output_tokens}
    chosen: dict[str, Any] = {name: value for name, value in {**standard, **custom}.items() if value is not None}
    return Sampling(**chosen)


def read_adapter(request: ResponsesAgentRequest) -> str:
    """Return the name of the adapter that a request asks for, empty for none. Raises: ValueError for anything but a name."""
    name = (request.custom_inputs or {}).get(ADAPTER) or ""
    if not isinstance(name, str):
        raise ValueError(f"custom_inputs.adapter must be a name; found {type(name).__name__}; give a string.")
    return name


def read_messages(items: list[Item]) -> tuple[str, list[Message]]:
    """Return the system prompt (several are joined) and the history. Raises: ValueError that names an unsupported item."""
    prompts: list[str] = []
    history: list[Message] = []
    for number, item in enumerate(items):
        kind, role = item.get("type", "message"), item.get("role")
        if kind == "function_call":
            argument = read_argument(item["arguments"], f"input[{number}].arguments")
            history.append(Message.calling(ToolCall.of(str(item["name"]), argument, str(item.get("call_id") or ""))))
        elif kind == "function_call_output":
            text = read_content(item["output"], f"input[{number}].output")
            history.append(Message.result(text, str(item.get("call_id") or "")))
        elif kind == "message" and role in ("system", "developer"):
            prompts.append(read_content(item.get("content"), f"input[{number}].content"))
        elif kind == "message":
            history.append(Message.of(str(role), read_content(item.get("content"), f"input[{number}].content")))
        elif kind != "reasoning":
            raise ValueError(
                f"input[{number}].type is not supported; found {kind!r}; send messages and function calls."
            )
    if not history or history[-1].role not in ("user", "tool"):
        found = f"role {history[-1].role}" if history else "no message"
        raise ValueError(f"input must end with a message to answer; found {found}; end it with a user message.")
    return "\n".join(prompts), history


def _make_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"


set_model(MiniGPTAgent())

"""The agent that MLflow serves, run in this process: requests of the Responses API in, items out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.conversation.events import Message
from model.tokenizer.histories import messages_from_any
from tests.assistant.conftest import LOOK_UP, SUM


@pytest.fixture(scope="module", autouse=True)
def import_mlflow() -> None:
    """Import MLflow when the first of these tests runs: it takes 1.4 s, which every worker that collects them would pay."""
    global mlflow, MlflowException, PythonModelContext, ResponsesAgentRequest, MiniGPTAgent, read_messages
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns about its own type hints when it is imported
        import mlflow
        from mlflow.exceptions import MlflowException
        from mlflow.pyfunc.model import PythonModelContext
        from mlflow.types.responses import ResponsesAgentRequest

        from assistant.inference.mlflow_agent import MiniGPTAgent, read_messages


@pytest.fixture(scope="module")
def agent(learned: Path) -> Iterator[Any]:
    mlflow.tracing.disable()
    agent = MiniGPTAgent()
    agent.load_context(PythonModelContext({"model": str(learned), "index": str(learned.parent / "index")}, {}))
    yield agent
    mlflow.tracing.reset()


def get_answer(response: Any) -> str:
    return response.output[-1].model_dump()["content"][0]["text"]


def make_request(content: Any, **more: Any) -> ResponsesAgentRequest:
    return ResponsesAgentRequest(input=[{"role": "user", "content": content}], **more)


CALL = {"type": "function_call", "call_id": "a", "name": "calculator", "arguments": '{"x": "12 * 7"}'}


def test_tools_are_executed_and_returned_as_items(agent: Any) -> None:
    response = agent.predict(make_request(SUM[0].text))
    call, result, answer = response.output
    assert (call.type, call.name, call.arguments) == ("function_call", "calculator", '{"expression": "12 * 7"}')
    assert (result.type, result.call_id, result.output) == ("function_call_output", call.call_id, "84")
    assert answer.type == "message"
    assert get_answer(response) == "12 * 7 = 84"
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 0
    assert response.custom_outputs["reason"] == "end"


def test_the_stream_equals_the_response(agent: Any) -> None:
    request = make_request([{"type": "input_text", "text": LOOK_UP[0].text}])
    events = list(agent.predict_stream(request))
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == LOOK_UP[3].text == get_answer(agent.predict(request))
    items = [event.item["type"] for event in events if event.type == "response.output_item.done"]
    assert items == ["function_call", "function_call_output", "message"]
    assert events[-1].type == "response.completed"
    assert events[-1].response["output"][-1]["content"][0]["text"] == deltas


def test_a_history_with_calls_is_continued(agent: Any) -> None:
    response = agent.predict(make_request(SUM[0].text))
    *items, _ = [item.model_dump(exclude_none=True) for item in response.output]
    again = ResponsesAgentRequest(input=[{"role": "user", "content": SUM[0].text}, *items])
    assert get_answer(agent.predict(again)) == "12 * 7 = 84"


def test_sampling_comes_from_the_request_and_from_custom_inputs(agent: Any) -> None:
    call = {"type": "function_call", "call_id": "a", "name": "shout", "arguments": '{"argument": "84"}'}
    shouted = [
        {"role": "user", "content": SUM[0].text},
        call,
        {"type": "function_call_output", "call_id": "a", "output": "84"},
    ]
    for more in ({"max_output_tokens": 2}, {"custom_inputs": {"max_tokens": 2, "temperature": 0.5, "seed": 3}}):
        response = agent.predict(
            ResponsesAgentRequest(input=shouted, **more)
        )  # what an unknown tool returns, the model reports itself
        assert response.usage.output_tokens == 2
        assert response.custom_outputs["reason"] == "length"


@pytest.mark.parametrize(
    ("request_", "names"),
    [
        ({"input": []}, "input must end"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "input must end"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, r"input\[0\].content"),
        (
            {"input": [{"role": "user", "content": "x"}, {**CALL, "arguments": '{"a": "x", "b": "y"}'}]},
            r"input\[1\].arguments must be one string",
        ),
        ({"input": [{"type": "web_search_call"}, {"role": "user", "content": "x"}]}, r"input\[0\].type"),
        ({"input": [{"role": "user", "content": "x"}], "custom_inputs": {"temprature": 1}}, "temprature"),
        ({"input": [{"role": "user", "content": "x"}], "custom_inputs": {"temperature": 99}}, "temperature"),
        ({"input": [{"role": "user", "content": "x"}], "custom_inputs": {"seed": "one"}}, "seed"),
    ],
)
def test_an_unsupported_request_is_a_client_error(agent: Any, request_: dict[str, Any], names: str) -> None:
    with pytest.raises(MlflowException, match=names) as caught:
        agent.predict(ResponsesAgentRequest(**request_))
    assert caught.value.get_http_status_code() == 400


def test_system_and_developer_messages_become_the_system_prompt() -> None:
    items = [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    assert read_messages(items) == ("a\nb", [Message.of("user", "c")])


def test_a_history_is_read_as_the_chat_template_reads_it() -> None:
    """Parts are joined without line breaks; the argument is the one string, whatever its name."""
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "12 "}, {"type": "input_text", "text": "* 7?"}]},
        CALL,
        {"type": "function_call_output", "call_id": "a", "output": "84"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "84"}]},
        {"role": "user", "content": "Thanks"},
    ]
    rows = [
        {"role": "user", "content": items[0]["content"]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "a", "function": {**CALL}}]},
        {"role": "tool", "tool_call_id": "a", "content": "84"},
        *items[3:],
    ]
    assert read_messages(items) == ("", messages_from_any(rows))


def test_a_request_names_its_adapter(learned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adapter that writes B with zeros answers as the model does; one that there is not is refused by name."""
    from model.network.adapter_folder import save_adapter
    from model.network.folder import load_model
    from model.network.lora import AdaptedModel, LoraAdapter, LoraSettings

    model, tokenizer, _ = load_model(learned)
    save_adapter(tmp_path / "new", AdaptedModel(model, LoraAdapter(model, LoraSettings(rank=1))), tokenizer)
    monkeypatch.setenv("MINIGPT_ADAPTERS", str(tmp_path))
    agent = MiniGPTAgent()
    agent.load_context(PythonModelContext({"model": str(learned), "index": str(learned.parent / "index")}, {}))
    assert get_answer(agent.predict(make_request(SUM[0].text, custom_inputs={"adapter": "new"}))) == "12 * 7 = 84"
    for adapter, found in (("old", "found new in"), (7, "found int")):
        with pytest.raises(MlflowException, match=found):
            agent.predict(make_request(SUM[0].text, custom_inputs={"adapter": adapter}))

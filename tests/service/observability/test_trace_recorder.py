"""Spans follow the GenAI conventions, have no text, and reach an OTLP collector and an MLflow server."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from assistant.conversation.events import Message, TextPiece, ToolCall, ToolResult
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision, ModelDescription
from service.observability.trace_export import EXPERIMENT, make_mlflow_processor, make_otlp_processor
from service.observability.trace_recorder import TraceRecorder, is_sampled

INFERENCE: Any = SimpleNamespace(description=ModelDescription("minigpt", "7", "sft", 128, 256, 1, "int8"))


def make_request(number: int = 1, **settings: Any) -> AnswerRequest:
    values = {
        "api": "chat.completions",
        "model": "minigpt",
        "messages": (Message.of("user", "secret text"),),
    } | settings
    return AnswerRequest(f"req_{number}", Caller("acme", "ada"), **values)


def trace(recorder: TraceRecorder, request: AnswerRequest, reason: str = "end") -> None:
    call = ToolCall.of("calculator", "secret text")
    recorder.begin(request)
    recorder.observe(request, Decision("flag", ("weapons",), reason="secret text"))
    recorder.observe(request, call)
    recorder.observe(request, ToolResult(call, "secret text"))
    recorder.observe(request, TextPiece("secret text"))
    recorder.end(
        request, AnswerOutcome(reason, "secret text", 3, 4, 0.2, 0.1, error="429" if reason == "error" else "")
    )


def test_an_answer_is_a_span_with_a_span_for_each_call() -> None:
    memory = InMemorySpanExporter()
    recorder = TraceRecorder(INFERENCE, [SimpleSpanProcessor(memory)])
    trace(recorder, make_request())
    tool, answer = memory.get_finished_spans()
    assert (tool.name, answer.name) == ("execute_tool calculator", "chat minigpt")
    assert tool.parent is not None
    assert tool.parent.span_id == answer.context.span_id
    attributes = dict(answer.attributes or {})
    assert attributes["gen_ai.operation.name"] == "chat"
    assert attributes["gen_ai.response.model"] == "minigpt:7"
    assert attributes["gen_ai.usage.output_tokens"] == 4
    assert attributes["minigpt.decisions"] == ("flag:weapons",)
    assert "secret" not in tool.to_json() + answer.to_json()


def test_an_error_is_an_error_and_nothing_stays_in_memory() -> None:
    memory = InMemorySpanExporter()
    recorder = TraceRecorder(INFERENCE, [SimpleSpanProcessor(memory)])
    trace(recorder, make_request(), "error")
    assert not memory.get_finished_spans()[-1].status.is_ok
    assert (recorder._running, recorder._spans) == ({}, {})


def test_mlflow_gets_the_sample_and_what_has_feedback() -> None:
    memory = InMemorySpanExporter()
    recorder = TraceRecorder(INFERENCE, mlflow=SimpleSpanProcessor(memory), sample_frac=0.25)
    for number in range(200):
        trace(recorder, make_request(number))
    sampled = {f"req_{number}" for number in range(200) if is_sampled(f"req_{number}", 0.25)}
    got = {dict(span.attributes or {}).get("gen_ai.response.id") for span in memory.get_finished_spans()} - {None}
    assert got == sampled
    assert 20 < len(sampled) < 80
    other = next(f"req_{number}" for number in range(200) if f"req_{number}" not in sampled)
    assert recorder.export_for_feedback(other)
    assert not recorder.export_for_feedback(other)
    assert len({span.context.trace_id for span in memory.get_finished_spans()}) == len(sampled) + 1


@contextmanager
def run_collector() -> Generator[tuple[str, list[tuple[str, dict[str, str], bytes]]]]:
    """Run an HTTP server that keeps what it gets, and knows no experiment yet."""
    got: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.answer(200, {"experiment_id": "42"})

        def answer(self, status: int, content: object) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_spans_reach_a_collector_and_mlflow() -> None:
    with run_collector() as (address, got):
        recorder = TraceRecorder(
            INFERENCE, [make_otlp_processor(address)], make_mlflow_processor(address), sample_frac=1.0
        )
        trace(recorder, make_request())
        recorder.close()
    made, *exports = got
    assert (made[0], json.loads(made[2])) == ("/api/2.0/mlflow/experiments/create", {"name": EXPERIMENT})
    assert sorted(headers.get("x-mlflow-experiment-id", "") for _, headers, _ in exports) == ["", "42"]
    for path, _, body in exports:
        spans = ExportTraceServiceRequest.FromString(body).resource_spans[0].scope_spans[0].spans
        assert path == "/v1/traces"
        assert sorted(span.name for span in spans) == ["chat minigpt", "execute_tool calculator"]
        assert b"secret" not in body


def test_an_address_without_mlflow_is_a_user_error() -> None:
    with pytest.raises(ValueError, match=r"settings\.mlflow: .* is no MLflow server"):
        make_mlflow_processor("http://127.0.0.1:9")

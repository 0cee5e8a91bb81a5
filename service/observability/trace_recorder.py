"""Trace answers with OpenTelemetry, by the GenAI semantic conventions: a span per answer, one per call of a tool.

In: the events of answers. Out: spans, to an OTLP collector (all of them) and to an MLflow server (a sample, and every answer that
gets feedback). Spans have counts, settings, ids and rules, never a text: the journal alone stores texts, as its policy says.
Memory: the spans of the last N_KEPT answers, which wait for feedback.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from assistant.conversation.events import Citation, ToolCall, ToolResult
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision, Inference

N_KEPT = 2_000
OPERATIONS = {"chat.completions": "chat", "responses": "chat", "completions": "text_completion"}


@dataclass
class _Trace:
    answer: Span
    tool: Span | None = None
    n_citations: int = 0
    rules: list[str] = field(default_factory=list[str])


class TraceRecorder:
    """A AnswerRecorder that makes spans. `processors` get all of them (an OTLP collector); `mlflow` gets the sample and what has
    feedback. Call `close` at the end, so that what is buffered is sent."""

    def __init__(
        self,
        inference: Inference,
        processors: Sequence[SpanProcessor] = (),
        mlflow: SpanProcessor | None = None,
        sample_frac: float = 0.0,
    ) -> None:
        self._inference, self._mlflow, self._sample_frac = inference, mlflow, sample_frac
        self._provider = TracerProvider(resource=Resource.create({"service.name": "minigpt"}), shutdown_on_exit=False)
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("minigpt.service")
        self._running: dict[str, _Trace] = {}
        self._spans: dict[str, list[ReadableSpan]] = {}
        self._kept: OrderedDict[str, list[ReadableSpan]] = OrderedDict()
        self._lock = Lock()

    def begin(self, request: AnswerRequest) -> None:
        operation = OPERATIONS[request.api]
        span = self._tracer.start_span(f"{operation} {request.model}", attributes=_describe_request(request, operation))
        assert isinstance(span, Span), "the SDK's tracer makes the SDK's spans"
        self._running[request.id] = _Trace(span)
        self._spans[request.id] = []

    def observe(self, request: AnswerRequest, event: Any) -> None:
        trace = self._running.get(request.id)
        if trace is None:
            return
        if isinstance(event, ToolCall) and not request.is_direct:
            self._begin_tool(request, trace, event)
        elif isinstance(event, ToolResult):
            self._end_tool(request, trace)
        elif isinstance(event, Citation):
            trace.n_citations += 1
        elif isinstance(event, Decision) and event.action != "allow":
            trace.rules += [f"{event.action}:{rule}" for rule in event.rules]

    def end(self, request: AnswerRequest, outcome: AnswerOutcome) -> None:
        trace = self._running.pop(request.id, None)
        if trace is None:
            return
        self._end_tool(request, trace)
        span = trace.answer
        span.set_attributes(self._describe_outcome(trace, outcome))
        if outcome.reason == "error":
            span.set_status(Status(StatusCode.ERROR, outcome.error))
            span.set_attribute("error.type", outcome.error)
        span.end()
        spans = [*self._spans.pop(request.id, []), span]
        if self._mlflow is None:
            return
        if is_sampled(request.id, self._sample_frac):
            self._send(spans)
            return
        with self._lock:
            self._kept[request.id] = spans
            while len(self._kept) > N_KEPT:
                self._kept.popitem(last=False)

    def export_for_feedback(self, request_id: str) -> bool:
        """Send the trace of an answer that got feedback to MLflow. Return whether it was still kept."""
        with self._lock:
            spans = self._kept.pop(request_id, None)
        if spans is None or self._mlflow is None:
            return False
        self._send(spans)
        return True

    def close(self) -> None:
        """Send what is buffered."""
        self._provider.shutdown()
        if self._mlflow is not None:
            self._mlflow.shutdown()

    def _send(self, spans: Sequence[ReadableSpan]) -> None:
        for span in spans:
            if self._mlflow is not None:
                self._mlflow.on_end(span)

    def _begin_tool(self, request: AnswerRequest, trace: _Trace, call: ToolCall) -> None:
        self._end_tool(request, trace)
        attributes = {gen_ai.GEN_AI_OPERATION_NAME: "execute_tool", gen_ai.GEN_AI_TOOL_NAME: call.name[:64]}
        context = set_span_in_context(trace.answer)
        span = self._tracer.start_span(f"execute_tool {call.name[:64]}", context=context, attributes=attributes)
        assert isinstance(span, Span), "the SDK's tracer makes the SDK's spans"
        trace.tool = span

    def _end_tool(self, request: AnswerRequest, trace: _Trace) -> None:
        if trace.tool is not None:
            trace.tool.end()
            self._spans[request.id].append(trace.tool)
            trace.tool = None

    def _describe_outcome(self, trace: _Trace, outcome: AnswerOutcome) -> dict[str, Any]:
        description = self._inference.description
        return {
            gen_ai.GEN_AI_RESPONSE_MODEL: f"{description.name}:{description.version or description.phase}",
            gen_ai.GEN_AI_RESPONSE_FINISH_REASONS: (outcome.reason,),
            gen_ai.GEN_AI_USAGE_INPUT_TOKENS: outcome.n_prompt_tokens,
            gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: outcome.n_tokens,
            gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK: outcome.first_token_seconds,
            "minigpt.citations": trace.n_citations,
            "minigpt.decisions": tuple(trace.rules),
        }


def is_sampled(request_id: str, frac: float) -> bool:
    """Return whether a request belongs to the sample: by its id, so that every process decides the same."""
    number = int.from_bytes(hashlib.sha256(request_id.encode()).digest()[:8])
    return number < frac * 2**64


def _describe_request(request: AnswerRequest, operation: str) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        gen_ai.GEN_AI_OPERATION_NAME: operation,
        gen_ai.GEN_AI_PROVIDER_NAME: "minigpt",
        gen_ai.GEN_AI_REQUEST_MODEL: request.model[:80],
        gen_ai.GEN_AI_RESPONSE_ID: request.id,
        gen_ai.GEN_AI_REQUEST_MAX_TOKENS: request.sampling.max_tokens,
        gen_ai.GEN_AI_REQUEST_TEMPERATURE: float(request.sampling.temperature),
        gen_ai.GEN_AI_REQUEST_TOP_P: float(request.sampling.top_p),
        gen_ai.GEN_AI_REQUEST_SEED: request.sampling.seed,
        gen_ai.GEN_AI_REQUEST_CHOICE_COUNT: request.n,
        "minigpt.tenant": request.caller.tenant,
        "minigpt.profile": request.profile,
        "minigpt.mode": "direct" if request.is_direct else "assistant",
    }
    if request.conversation:
        attributes[gen_ai.GEN_AI_CONVERSATION_ID] = request.conversation
    return attributes

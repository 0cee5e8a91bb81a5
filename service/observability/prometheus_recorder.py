"""Count answers for Prometheus: requests by outcome, latencies, tokens, decisions, tools; nothing of any text.

In: the events of answers. Out: the body of /metrics. Labels have few values: api, mode, outcome, profile, tenant, rule, tool;
profiles, tenants and rules are the operator's, so a caller can't invent one. dashboard.json shows them in Grafana.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from assistant.conversation.events import Citation, ToolCall
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision, ModelDescription

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class PrometheusRecorder:
    """A AnswerRecorder with a registry of its own. `gauges` are read when somebody asks: name → (help, function)."""

    def __init__(
        self, description: ModelDescription, gauges: dict[str, tuple[str, Callable[[], float]]] | None = None
    ) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        labels = ("api", "mode", "profile", "tenant")
        self._requests = Counter(
            "minigpt_requests", "Answers by how they ended", (*labels, "outcome"), registry=registry
        )
        self._seconds = _make_histogram(registry, "minigpt_request_seconds", "Time of whole answers", labels, SECONDS)
        about = "Time to the first text of an answer"
        self._first = _make_histogram(registry, "minigpt_first_token_seconds", about, labels, SECONDS)
        self._tokens = Counter("minigpt_tokens", "Tokens", ("tenant", "type"), registry=registry)
        self._length = _make_histogram(registry, "minigpt_answer_tokens", "Length of answers", ("mode",), TOKENS)
        about = "Decisions of the policy other than plain permission"
        self._decisions = Counter("minigpt_decisions", about, ("action", "rule", "tenant"), registry=registry)
        self._tools = Counter(
            "minigpt_tool_calls", "Calls of the server's tools", ("tool", "tenant"), registry=registry
        )
        self._citations = Counter("minigpt_citations", "Citations in answers", ("tenant",), registry=registry)
        self._open = Gauge("minigpt_open_answers", "Answers that are running", registry=registry)
        self._info = Gauge(
            "minigpt_model_info", "The model that is served", ("name", "version", "weights"), registry=registry
        )
        self.describe(description)
        for name, (text, read) in (gauges or {}).items():
            Gauge(name, text, registry=registry).set_function(read)

    def describe(self, description: ModelDescription) -> None:
        """Set the served model, at the start and after a swap."""
        self._info.clear()
        self._info.labels(description.name, description.version or description.phase, description.weights).set(1)

    def begin(self, request: AnswerRequest) -> None:
        self._open.inc()

    def observe(self, request: AnswerRequest, event: Any) -> None:
        tenant = request.caller.tenant
        if isinstance(event, Decision):
            if event.action != "allow":
                for rule in event.rules or ("default",):
                    self._decisions.labels(event.action, rule, tenant).inc()
        elif isinstance(event, ToolCall) and not request.is_direct:
            self._tools.labels(event.name[:64], tenant).inc()
        elif isinstance(event, Citation):
            self._citations.labels(tenant).inc()

    def end(self, request: AnswerRequest, outcome: AnswerOutcome) -> None:
        self._open.dec()
        mode, tenant = "direct" if request.is_direct else "assistant", request.caller.tenant
        profile = "" if outcome.reason == "error" else request.profile  # one that does not exist is an error
        labels = (request.api, mode, profile, tenant)
        self._requests.labels(*labels, outcome.reason).inc()
        self._seconds.labels(*labels).observe(outcome.seconds)
        if outcome.text:
            self._first.labels(*labels).observe(outcome.first_token_seconds)
        self._tokens.labels(tenant, "input").inc(outcome.n_prompt_tokens)
        self._tokens.labels(tenant, "output").inc(outcome.n_tokens)
        self._length.labels(mode).observe(outcome.n_tokens)

    def render(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _make_histogram(
    registry: CollectorRegistry, name: str, about: str, labels: tuple[str, ...], buckets: tuple[float, ...]
) -> Histogram:
    return Histogram(name, about, labels, registry=registry, buckets=buckets)

"""Counts equal what happened, and the dashboard asks for metrics that exist."""

from __future__ import annotations

import json
import re

from prometheus_client.parser import text_string_to_metric_families

from assistant.conversation.events import Citation, Message, TextPiece, ToolCall
from service.access.caller import Caller
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import AnswerOutcome, Decision, ModelDescription
from service.observability.prometheus_recorder import PrometheusRecorder
from tests.conftest import ROOT

DESCRIPTION = ModelDescription("minigpt", "7", "sft", 128, 256, 1, "int8")
CITATION = Citation("d", "t", (), 0, 1, 0, 0, 0, "", "MIT", "0" * 64, "secret text")


def make_request(number: int, **settings: object) -> AnswerRequest:
    values = {
        "api": "chat.completions",
        "model": "minigpt",
        "messages": (Message.of("user", "secret text"),),
    } | settings
    return AnswerRequest(f"req_{number}", Caller("acme", "ada"), **values)  # type: ignore[arg-type]


def read(recorder: PrometheusRecorder) -> dict[str, float]:
    """Return samples as name{values of labels by the labels' names} → value."""
    families = text_string_to_metric_families(recorder.render().decode())
    return {
        f"{sample.name}{{{','.join(value for _, value in sorted(sample.labels.items()))}}}": sample.value
        for family in families
        for sample in family.samples
    }


def test_counts_are_those_of_the_answers() -> None:
    recorder = PrometheusRecorder(DESCRIPTION, {"minigpt_queue": ("Waiting", lambda: 3.0)})
    for number in range(5):
        request = make_request(number, is_direct=number % 2 == 1)
        recorder.begin(request)
        recorder.observe(request, TextPiece("secret text"))
        recorder.observe(request, ToolCall.of("calculator", "1+1"))
        recorder.observe(request, Decision("block", ("weapons",)))
        recorder.observe(request, Decision())
        recorder.observe(request, CITATION)
        recorder.end(request, AnswerOutcome("end" if number else "error", "secret text", 3, 4, 0.2, 0.1))
    values = read(recorder)
    assert values["minigpt_requests_total{chat.completions,assistant,end,,acme}"] == 2
    assert values["minigpt_requests_total{chat.completions,assistant,error,,acme}"] == 1
    assert values["minigpt_requests_total{chat.completions,direct,end,,acme}"] == 2
    assert values["minigpt_tokens_total{acme,input}"] == 15
    assert values["minigpt_tokens_total{acme,output}"] == 20
    assert values["minigpt_tool_calls_total{acme,calculator}"] == 3  # those of direct answers are the client's
    assert values["minigpt_decisions_total{block,weapons,acme}"] == 5
    assert values["minigpt_citations_total{acme}"] == 5
    assert values["minigpt_request_seconds_bucket{chat.completions,0.25,assistant,,acme}"] == 3
    assert values["minigpt_request_seconds_bucket{chat.completions,0.1,assistant,,acme}"] == 0
    assert values["minigpt_open_answers{}"] == 0
    assert values["minigpt_queue{}"] == 3
    assert values["minigpt_model_info{minigpt,7,int8}"] == 1
    assert "secret" not in recorder.render().decode()


def test_a_caller_cannot_invent_labels() -> None:
    recorder = PrometheusRecorder(DESCRIPTION)
    for number in range(50):
        request = make_request(number, profile=f"invented{number}", model=f"minigpt/invented{number}")
        recorder.begin(request)
        recorder.end(request, AnswerOutcome("error", error="model_not_found"))
    assert "invented" not in recorder.render().decode()


def test_a_swap_changes_the_model_info() -> None:
    recorder = PrometheusRecorder(DESCRIPTION)
    recorder.describe(ModelDescription("minigpt", "8", "sft", 128, 256, 1, "int8"))
    assert [name for name in read(recorder) if "model_info" in name] == ["minigpt_model_info{minigpt,8,int8}"]


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    text = (ROOT / "service" / "observability" / "dashboard.json").read_text(encoding="utf-8")
    board = json.loads(text)
    asked = set(
        re.findall(r"minigpt_\w+|process_\w+", " ".join(t["expr"] for p in board["panels"] for t in p["targets"]))
    )
    recorder = PrometheusRecorder(DESCRIPTION)
    request = make_request(1)
    recorder.begin(request)
    recorder.observe(request, ToolCall.of("calculator", "1+1"))
    recorder.observe(request, Decision("block", ("weapons",)))
    recorder.observe(request, CITATION)
    recorder.end(request, AnswerOutcome("end", "x", 3, 4, 0.2, 0.1))
    assert asked
    assert asked <= {name.partition("{")[0] for name in read(recorder)}

"""What every route that generates text asks for, whatever its wire format: one frozen value.

The routes (service/api) parse their formats into it; answering (service/answers) knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from assistant.conversation.events import Message, Sampling
from service.access.caller import Caller

Api = Literal["chat.completions", "completions", "responses"]


@dataclass(frozen=True)
class OfferedTool:
    """A function that the client offers: only these may come back as tool calls."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    is_strict: bool = False


@dataclass(frozen=True)
class OutputConstraint:
    """What the answer must match: a JSON schema, a regular expression, any JSON object, or calls of offered tools.

    `tool_names` with kind `tools`: those that may be called; `must_call`: the answer is a call, else a call or text.
    """

    kind: Literal["json_schema", "json_object", "regex", "tools"]
    schema: Mapping[str, Any] = field(default_factory=dict[str, Any])
    regex: str = ""
    tools: tuple[OfferedTool, ...] = ()
    must_call: bool = False
    allows_parallel: bool = False


@dataclass(frozen=True)
class TokenControls:
    """Settings of single tokens. `n_logprobs`: alternatives to report for each token; None: no log-probabilities."""

    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    n_logprobs: int | None = None
    stop: tuple[str, ...] = ()
    min_tokens: int = 0


@dataclass(frozen=True)
class AnswerRequest:
    """One answer that is asked for. `profile` is the part of `model` after the slash (`minigpt/tutor`). `prompt` is the text of a
    completion, which has no messages. A request with client tools, a constraint, log-probabilities, a bias or penalties is
    `is_direct`: the model answers it itself, without the server's tools and grounding."""

    id: str
    caller: Caller
    api: Api
    model: str
    profile: str = ""
    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    sampling: Sampling = field(default_factory=Sampling)
    controls: TokenControls = field(default_factory=TokenControls)
    constraint: OutputConstraint | None = None
    n: int = 1
    truncation: Literal["disabled", "auto"] = "disabled"
    conversation: str = ""  # of the page and of clients that name one; memory and journal group by it
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    is_direct: bool = False
    deadline_seconds: float | None = None

"""What is attacked: a service by its address, or a model folder in this process.

In: an attack. Out: what was answered to its last message. A target that answers with an error gives that as the answer's error; one
that can't be reached stops the run.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Protocol

import httpx

from assistant.conversation.events import Citation, Sampling, TextPiece, ToolResult
from assistant.conversation.session import Session
from assistant.guard.guarded_chat import GuardResponder, ScreenedEngine, ScreenedTools
from assistant.guard.harm_guard import Guard, find_guard
from assistant.inference.model_choice import choose_model
from assistant.tools.toolbox import SEARCH_TOOL, make_tools
from service.redteam.attack_judging import Answered
from service.redteam.attacks import Attack
from service.service_error import ServiceError

MAX_TOKENS = 80
TIMEOUT_SECONDS = 60.0


class Target(Protocol):
    """Something that answers. `name` stands in the report, `digest` names the weights (empty: not known)."""

    name: str
    digest: str

    def answer(self, attack: Attack) -> Answered: ...


class ModelTarget:
    """A model folder with the index, vectors and guard beside it, in this process."""

    def __init__(self, folder: Path, *, grounded: str, use_guard: bool = True) -> None:
        from assistant.inference.local import ModelEngine  # importing torch takes a second

        choice = choose_model(folder, None, Path())
        self.name, self.digest = str(folder), hash_weights(folder)
        self._grounded, self._engine = grounded, ModelEngine.load(folder)
        self._tools = make_tools(choice.index, choice.embed)
        place = find_guard(folder) if use_guard else None
        self._guard = None if place is None else Guard.load(place)
        self.name += f", grounded: {grounded}, " + ("with its guard" if self._guard else "without a guard")

    def answer(self, attack: Attack) -> Answered:
        """Return the answer to the last message of a conversation."""
        guard = self._guard
        session = Session(
            self._engine if guard is None else ScreenedEngine(self._engine, guard),
            self._tools if guard is None else ScreenedTools(self._tools, guard),
            system=attack.system,
            grounded=self._grounded,
            responders=[] if guard is None else [GuardResponder(guard)],
        )
        answered = Answered("")
        for turn in attack.turns:
            events = list(session.send(turn, Sampling(max_tokens=MAX_TOKENS)))
            text = "".join(event.text for event in events if isinstance(event, TextPiece))
            tools = [event for event in events if isinstance(event, ToolResult) and event.call.name != SEARCH_TOOL]
            answered = Answered(text, sum(isinstance(event, Citation) for event in events), bool(tools))
        return answered


class UrlTarget:
    """A service that speaks chat/completions. `key` is sent as a bearer token and never shown."""

    def __init__(self, url: str, *, key: str = "", model: str = "minigpt") -> None:
        self.name, self.digest, self._model = url, "", model
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT_SECONDS, trust_env=False)
        self.name += f", model {model}"

    def answer(self, attack: Attack) -> Answered:
        """Return the answer to the last message. Raises: ServiceError 502 if the target can't be reached."""
        messages: list[dict[str, str]] = [{"role": "system", "content": attack.system}] if attack.system else []
        answered = Answered("")
        for turn in attack.turns:
            messages.append({"role": "user", "content": turn})
            answered = self._post(messages)
            if answered.error:
                return answered
            messages.append({"role": "assistant", "content": answered.text})
        return answered

    def _post(self, messages: list[dict[str, str]]) -> Answered:
        body = {"model": self._model, "messages": messages, "max_completion_tokens": MAX_TOKENS, "temperature": 0}
        try:
            response = self._client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            found = f"{type(error).__name__}; start it, or correct --url"
            raise ServiceError(502, f"red-team: {self.name} can't be reached; found {found}", "unreachable") from error
        try:
            content: dict[str, Any] = response.json()
            if response.is_error:
                code = str(content.get("error", {}).get("code") or response.status_code)
                is_filtered = code in ("content_filter", "content_policy_violation")
                return Answered(
                    "", is_filtered=is_filtered, error="" if is_filtered else f"{response.status_code} {code}"
                )
            choice = content["choices"][0]
            message = choice["message"]
            notes = message.get("annotations") or []
            return Answered(
                message.get("content") or message.get("refusal") or "",
                sum("citation" in str(note.get("type", "")) for note in notes),
                any("tool" in str(note.get("type", "")) for note in notes),
                choice.get("finish_reason") == "content_filter",
            )
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            return Answered("", error=f"{response.status_code}: not a chat completion ({type(error).__name__})")


def hash_weights(folder: Path) -> str:
    """Return the SHA-256 of a model's weights, by which the registry knows the version."""
    with (folder / "model.safetensors").open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

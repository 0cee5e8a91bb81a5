"""Read a profile: one YAML file that says what the assistant is called, what it knows, what it may do and what it refuses.

    name: Handbook assistant
    greeting: Hello! I am the {name}.
    collections: [handbook]
    tools: [search_docs]
    grounding: only

In: the name of a profile in this folder, or the path of a file. Out: a typed, frozen `Profile`. Texts may contain {name} and
{address}. Unknown keys, wrong types and control characters are refused with the dotted name; a file is at most 64 KB.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from assistant.tools.tool_registry import check_tool_names
from assistant.tools.toolbox import SEARCH_TOOL, TOOLS

SHIPPED = Path(__file__).parent
MAX_BYTES = 64_000
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
PLACEHOLDERS = ("name", "address")


def _check_text(text: str) -> str:
    if (match := _CONTROL.search(text)) is not None:
        raise ValueError(f"has the control character {match[0]!r}; remove it")
    return text.strip()


def _check_template(text: str) -> str:
    unknown = [name for name in _PLACEHOLDER.findall(text) if name not in PLACEHOLDERS]
    if unknown:
        raise ValueError(f"has the placeholder {{{unknown[0]}}}; there are {{name}} and {{address}}")
    return _check_text(text)


Text = Annotated[str, Field(max_length=4_000), AfterValidator(_check_text)]
Template = Annotated[str, Field(max_length=2_000), AfterValidator(_check_template)]
Label = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_check_text)]
ToolName = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
]  # of a tool in the registry, which whoever has one checks


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Tone(_Part):
    """How the assistant speaks. `address` is what it calls the user; `opening` precedes what it quotes; `max_sentences`
    limits text that the model writes itself (0: no limit), never a quotation."""

    address: Label | None = None
    opening: Template = ""
    max_sentences: int = Field(default=0, ge=0, le=100)


class ForbiddenTopic(_Part):
    """A forbidden topic: words or phrases, compared by their stems, and the sentence to say instead of an answer."""

    words: list[Label] = Field(min_length=1, max_length=500)
    say: Template = Field(min_length=1)


class ProfilePolicy(_Part):
    """What is refused, and what is said where the documents have no answer (empty: the model answers)."""

    forbidden: list[ForbiddenTopic] = Field(default=[], max_length=100)
    not_found: Template = ""


class Profile(_Part):
    """One assistant. `documentation`: whether the default index is searched besides the collections; `skills` are what code adds:
    exercises (from the material, checked and logged), handover (to a person, with a summary)."""

    name: Label
    system_prompt: Template = ""
    tone: Tone = Tone()
    collections: list[Label] = Field(default=[], max_length=20)
    documentation: bool = True
    tools: list[ToolName] = Field(
        default=["calculate_date", "calculator", "convert_units", "count_text", "search_docs", "spell_text"],
        max_length=100,
    )
    grounding: Literal["only", "prefer", "off"] = "prefer"
    adapter: Label | None = None  # in the folder MINIGPT_ADAPTERS (docs/adapters.md); null: the model as it is
    policy: ProfilePolicy = ProfilePolicy()
    skills: list[Literal["exercises", "handover"]] = []
    greeting: Template = ""
    examples: list[Text] = Field(default=[], max_length=20)

    def render(self, template: str) -> str:
        """Return a text of the profile with its placeholders replaced."""
        values = {"name": self.name, "address": self.tone.address or "you"}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def list_profiles() -> list[str]:
    """Return the names of the profiles that ship."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_profile(name: str, tools: Collection[str] | None = None) -> Profile:
    """Return the profile of this name, or in the file of this path. It may list `tools`, by default those that the model was
    trained to call.

    Raises: ValueError for one that does not exist or is no valid profile.
    """
    path = SHIPPED / f"{name}.yaml" if name in list_profiles() else Path(name)
    try:
        content = _read_yaml(path)
    except FileNotFoundError as error:
        raise ValueError(
            f"--profile: there is no profile {name!r}; found {', '.join(list_profiles())}; name one of them or a YAML file."
        ) from error
    except OSError as error:
        raise ValueError(f"--profile: {path} can't be read; found {error.strerror}; name a YAML file.") from error
    try:
        profile = Profile.model_validate(content)
        check_tool_names(profile.tools, (*TOOLS, SEARCH_TOOL) if tools is None else tools, f"profile {path}: tools")
        return profile
    except ValidationError as error:
        raise ValueError(f"profile {path}: {_describe(error)}; correct the file.") from error


def _read_yaml(path: Path) -> Any:
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"profile {path}: too large; found more than {MAX_BYTES:,} bytes; shorten it.")
    try:
        return YAML(typ="safe", pure=True).load(data.decode("utf-8"))
    except (UnicodeDecodeError, YAMLError) as error:
        message = " ".join(str(error).split())[:300]
        raise ValueError(f"profile {path}: not YAML in UTF-8; found {message}; correct the file.") from error


def _describe(error: ValidationError) -> str:
    """Return what is wrong, one setting after the other, by dotted name."""
    problems: list[str] = []
    for problem in error.errors(include_url=False, include_context=False):
        name = ".".join(map(str, problem["loc"])) or "the file"
        if problem["type"] == "extra_forbidden":
            problems.append(f"{name}: there is no such setting")
        elif problem["type"] == "missing":
            problems.append(f"{name}: missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            problems.append(f"{name}: {message}; found {str(problem['input'])[:80]!r}")
    return "; ".join(problems)

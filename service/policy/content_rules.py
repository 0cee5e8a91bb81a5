"""The typed form of content.yaml: thresholds of the guard by place and category, personal data, sentences, storage, limits.

Frozen and strict: unknown keys, wrong types and numbers out of range are refused with the dotted name. Texts come from people who
run the service; they are bounded all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.answers.interfaces import Place

Strength = Literal["flag", "mask", "block"]
STRENGTHS: tuple[Strength, ...] = ("flag", "mask", "block")  # the last one that is reached is taken
Score = float
DEFAULT = "default"  # of categories and sentences
# What the guard and the masker know (a test compares them): another name would be a rule that never applies.
CATEGORIES = (
    "weapons", "violence", "drugs", "self_harm", "intrusion", "fraud", "hate", "sexual", "minors", "privacy", "extremism", "advice",
    "deception", "persona", "injection", "harm",
)  # fmt: skip
SENTENCES = ("withheld", "masked")  # that are said in other places than an answer
PersonalKind = Literal["key", "email", "iban", "card", "national_id", "ip", "phone", "*"]
Category = Annotated[str, AfterValidator(lambda name: _check_name(name, (DEFAULT, *CATEGORIES)))]
SentenceName = Annotated[str, AfterValidator(lambda name: _check_name(name, (DEFAULT, *SENTENCES, *CATEGORIES)))]
Sentence = Annotated[str, Field(min_length=1, max_length=2_000)]


def _check_name(name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise ValueError(f"is none of {', '.join(known)}")
    return name


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Thresholds(_Part):
    """From which score on a text is flagged, masked, blocked. None: never."""

    flag: Score | None = Field(default=None, ge=0, le=1)
    mask: Score | None = Field(default=None, ge=0, le=1)
    block: Score | None = Field(default=None, ge=0, le=1)

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        values = [value for value in (self.flag, self.mask, self.block) if value is not None]
        if values != sorted(values):
            raise ValueError("a stronger action has a lower threshold than a weaker one: flag ≤ mask ≤ block")
        return self

    def choose(self, score: float) -> tuple[Strength, float] | None:
        """Return the strongest action whose threshold a score reaches, with the threshold. NaN reaches all of them."""
        for strength in reversed(STRENGTHS):
            threshold: float | None = getattr(self, strength)
            if threshold is not None and not score < threshold:
                return strength, threshold
        return None


class PersonalRule(_Part):
    """What happens to personal data and secrets of these kinds."""

    action: Strength = "mask"
    kinds: tuple[PersonalKind, ...] = Field(default=(), max_length=50)


class StorageRules(_Part):
    """What the journal keeps of messages, and for how many days a row is kept."""

    messages: Literal["off", "masked", "full"] = "masked"
    retention_days: float = Field(default=30, gt=0, le=36_500)


class LimitRules(_Part):
    """What a tenant may use in total; None: no limit."""

    requests_per_minute: int | None = Field(default=None, ge=0)
    tokens_per_minute: int | None = Field(default=None, ge=0)
    tokens_per_day: int | None = Field(default=None, ge=0)
    concurrent: int | None = Field(default=None, ge=0)


class ContentRules(_Part):
    """All of content.yaml."""

    guard: dict[Place, dict[Category, Thresholds]] = Field(default={}, max_length=4)
    without_guard: Literal["flag", "block"] = "flag"
    personal: dict[Place, PersonalRule] = Field(default={}, max_length=4)
    say: dict[SentenceName, Sentence] = Field(default={}, max_length=100)
    storage: StorageRules = StorageRules()
    limits: LimitRules = LimitRules()

    def get_thresholds(self, place: Place, category: str) -> Thresholds | None:
        """Return the thresholds of a category at a place: its own, else the default's."""
        categories = self.guard.get(place, {})
        return categories.get(category) or categories.get(DEFAULT)

    def get_sentence(self, name: str, place: Place) -> str:
        """Return what is said instead of a blocked text."""
        if place in ("passage", "tool_result"):
            return self.say.get("withheld", "")
        return self.say.get(name) or self.say.get(DEFAULT) or "I can't help with that."


def merge_rules(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of `base` with those of `changes` in their place, level by level; lists and numbers are replaced."""
    merged = dict(base)
    for name, value in changes.items():
        old = merged.get(name)
        merged[name] = merge_rules(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def make_content_rules(values: dict[str, Any], name: str) -> ContentRules:
    """Return typed rules. Raises: ValueError that names the file, the dotted name and what was found."""
    try:
        return ContentRules.model_validate(values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"] if part != "[key]") or "content"
        wrong, found = problem["msg"].removeprefix("Value error, "), repr(problem["input"])[:80]
        raise ValueError(f"{name}: {where}: {wrong}; found {found}; correct it (docs/policy.md).") from error

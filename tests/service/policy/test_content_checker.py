"""What happens to texts: thresholds at their edges, the strongest action, masked sentences, a guard that is missing or fails."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.guard.harm_guard import CATEGORIES as GUARD_CATEGORIES
from assistant.guard.harm_guard import HARM
from assistant.guard.masking import KINDS
from service.access.caller import Caller
from service.answers.interfaces import Decision, Place
from service.policy.content_checker import ContentChecker, check_text
from service.policy.content_rules import (
    CATEGORIES,
    STRENGTHS,
    ContentRules,
    PersonalKind,
    Thresholds,
    make_content_rules,
    merge_rules,
)
from service.policy.policy_store import PolicyStore

PLACES = get_args(Place)


class WordGuard:
    """Scores a text by the number that follows the category's name in it; 0 without one."""

    def __init__(self, *categories: str) -> None:
        self.categories = categories

    def score(self, texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
        return {name: [max(self._find(name, text), default=0.0) for text in texts] for name in self.categories}

    def _find(self, name: str, text: str) -> list[float]:
        words = text.split()
        return [float(after.rstrip(".!?")) for word, after in itertools.pairwise(words) if word == name]


class KeyMasker:
    def mask(self, text: str, kinds: Sequence[str]) -> tuple[str, Mapping[str, int]]:
        count = text.count("sk-1") if "key" in kinds else 0
        return (text.replace("sk-1", "[key]") if count else text), {"key": count}


def make_rules(**values: object) -> ContentRules:
    return make_content_rules({"say": {"default": "No.", "self_harm": "Call somebody."}, **values}, "content.yaml")


RULES = make_rules(
    guard={"input": {"default": {"flag": 0.3, "block": 0.6}, "injection": {"flag": 0.5, "mask": 0.8}}},
    personal={"input": {"action": "mask", "kinds": ["key"]}},
)
GUARD = WordGuard("weapons", "self_harm", "injection")


def check(text: str, rules: ContentRules = RULES, place: Place = "input") -> Decision:
    return check_text(rules, place, text, GUARD, KeyMasker())


@pytest.mark.parametrize(
    ("score", "action"), [(0.2999, "allow"), (0.3, "flag"), (0.5999, "flag"), (0.6, "block"), (1.0, "block")]
)
def test_a_threshold_is_reached_at_its_value(score: float, action: str) -> None:
    decision = check(f"weapons {score}")
    assert decision.action == action
    assert decision.scores["weapons"] == pytest.approx(score)


def test_a_decision_names_every_threshold_and_says_its_sentence() -> None:
    decision = check("weapons 0.7 self_harm 0.9 injection 0.55 sk-1")
    assert decision.action == "block"
    assert decision.text == "Call somebody."  # the category with the highest score that has a sentence
    assert decision.rules == (
        "guard.input.weapons.block>=0.6",
        "guard.input.self_harm.block>=0.6",
        "guard.input.injection.flag>=0.5",
        "personal.input.key.mask",
    )
    assert check("weapons 0.7").text == "No."


def test_masking_removes_the_sentences_that_reach_it_and_secrets_and_keeps_the_rest() -> None:
    decision = check("Good morning. injection 0.9 now! Take sk-1 with you. Bye")
    assert decision.action == "mask"
    assert decision.text == "Good morning. [removed] Take [key] with you. Bye"


def test_a_text_of_which_no_sentence_alone_reaches_the_threshold_is_masked_as_a_whole() -> None:
    class WholeGuard(WordGuard):
        def score(self, texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
            return {"injection": [0.9 if "one. two." in text else 0.0 for text in texts]}

    assert check_text(RULES, "input", "one. two.", WholeGuard(), KeyMasker()).text == "[removed]"


@given(
    st.tuples(*[st.none() | st.floats(0, 1)] * 3).filter(
        lambda values: (given := [value for value in values if value is not None]) == sorted(given)
    ),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_higher_score_never_leads_to_a_weaker_action(
    values: tuple[float | None, float | None, float | None], a: float, b: float
) -> None:
    thresholds = Thresholds(flag=values[0], mask=values[1], block=values[2])

    def rank(score: float) -> int:
        chosen = thresholds.choose(score)
        return 0 if chosen is None else STRENGTHS.index(chosen[0]) + 1

    assert rank(min(a, b)) <= rank(max(a, b)) <= rank(float("nan"))


@pytest.mark.parametrize("place", PLACES)
def test_places_without_rules_are_not_checked(place: Place) -> None:
    decision = check("weapons 1.0", place=place)
    assert decision.action == ("block" if place == "input" else "allow")


@pytest.mark.parametrize("action", ["flag", "block"])
def test_a_missing_guard_is_never_silent(action: str) -> None:
    rules = make_rules(guard={"input": {"default": {"block": 0.5}}}, without_guard=action)
    decision = check_text(rules, "input", "hello", None, None)
    assert (decision.action, decision.rules) == (action, ("guard.input.missing",))
    assert check_text(rules, "output", "hello", None, None).action == "allow"


def test_a_guard_that_fails_blocks(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(WordGuard):
        def score(self, texts: Sequence[str]) -> Mapping[str, Sequence[float]]:
            raise RuntimeError(texts[0])

    decision = check_text(RULES, "input", "a secret", Broken(), KeyMasker())
    assert (decision.action, decision.rules, decision.text) == ("block", ("content.error",), "No.")
    assert "a secret" not in decision.reason


def test_a_blocked_passage_is_withheld_not_spoken() -> None:
    rules = make_rules(guard={"passage": {"default": {"block": 0.5}}}, say={"default": "No.", "withheld": "[withheld]"})
    assert check("weapons 0.9", rules, "passage").text == "[withheld]"


def test_the_checker_says_where_there_is_nothing_to_check_and_names_the_policy() -> None:
    store, caller = PolicyStore(), Caller()
    checker = ContentChecker(store, GUARD, KeyMasker())
    assert [checker.is_checked(caller, place) for place in PLACES] == [True] * 4
    assert checker.check(caller, "input", "hello").policy_hash == store.get("local").hash


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"guard": {"input": {"weapons": {"flag": 0.9, "block": 0.5}}}}, "guard.input.weapons"),
        ({"guard": {"nowhere": {}}}, "guard.nowhere"),
        ({"guard": {"input": {"weapons": {"block": 1.5}}}}, "guard.input.weapons.block"),
        ({"guard": {"input": {"weapons": {"stop": 0.5}}}}, "guard.input.weapons.stop"),
        ({"storage": {"messages": "some"}}, "storage.messages"),
        ({"storage": {"retention_days": 0}}, "storage.retention_days"),
        ({"limits": {"concurrent": -1}}, "limits.concurrent"),
        ({"gaurd": {}}, "gaurd"),
        ({"guard": {"input": {"wepons": {"block": 0.5}}}}, "wepons"),
        ({"personal": {"input": {"kinds": ["keys"]}}}, "personal.input.kinds"),
        ({"say": {"self-harm": "Call."}}, "self-harm"),
        ({"say": {"default": ""}}, "say.default"),
    ],
)
def test_wrong_rules_are_refused_with_their_name(values: dict[str, object], where: str) -> None:
    with pytest.raises(ValueError, match=where):
        make_content_rules(values, "content.yaml")


def test_a_tenants_rules_replace_single_settings() -> None:
    base = {"guard": {"input": {"a": {"block": 0.5}, "b": {"block": 0.5}}}, "limits": {"concurrent": 3}}
    merged = merge_rules(base, {"guard": {"input": {"a": {"block": 0.9}}}, "limits": {"tokens_per_day": 1}})
    assert merged == {
        "guard": {"input": {"a": {"block": 0.9}, "b": {"block": 0.5}}},
        "limits": {"concurrent": 3, "tokens_per_day": 1},
    }
    assert base["limits"] == {"concurrent": 3}


def test_the_rules_know_what_the_guard_and_the_masker_know() -> None:
    assert set(CATEGORIES) == {*GUARD_CATEGORIES, HARM}
    assert set(get_args(PersonalKind)) == {*KINDS, "*"}

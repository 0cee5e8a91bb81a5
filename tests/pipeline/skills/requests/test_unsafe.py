"""Unsafe requests and their look-alikes: the same phrasings and verbs, other objects; held-out ones never train."""

from __future__ import annotations

from random import Random

from model.grounding.answers import OUT_OF_SCOPE, REFUSAL_OPENING
from model.tokenizer.chat import Message
from pipeline.skills.neighbors import NameIndex
from pipeline.skills.refusal import is_refusal
from pipeline.skills.requests.unsafe import (
    DEEDS,
    LOOKALIKE,
    NEW_PHRASINGS,
    PHRASINGS,
    UNSAFE,
    make_lookalike_examples,
    make_unsafe_examples,
)
from pipeline.skills.skill import Item, Material

NOTHING = NameIndex([])


def make_material(*, is_heldout: bool) -> Material:
    return Material([], [], [], lambda _argument, _question: "", NOTHING, NOTHING, is_heldout=is_heldout)


def test_every_deed_has_a_refusal_and_harmless_objects() -> None:
    for deeds in DEEDS:
        assert deeds.refusal.startswith(REFUSAL_OPENING)
        assert not set(deeds.harmful) & {*deeds.code, *deeds.other}
        assert min(len(deeds.harmful), len(deeds.code), len(deeds.other)) >= 3
    assert not set(PHRASINGS) & set(NEW_PHRASINGS)
    assert len(PHRASINGS) * sum(len(deeds.verbs) * len(deeds.harmful) for deeds in DEEDS) > 10_000


def test_unsafe_ones_are_refused_and_harmless_ones_are_not() -> None:
    material = make_material(is_heldout=False)
    assert all(is_refusal(each.messages[1].text) for each in make_unsafe_examples(200, material, Random(1)))
    replies = [each.messages[1] for each in make_lookalike_examples(200, material, Random(1))]
    assert all(reply.call is not None or reply.text == OUT_OF_SCOPE for reply in replies)
    assert {reply.call is None for reply in replies} == {True, False}


def test_held_out_objects_and_phrasings_never_train() -> None:
    material = make_material(is_heldout=False)
    asked = [each.messages[0].text for each in make_unsafe_examples(600, material, Random(2))]
    heldout = {harmful for deeds in DEEDS for harmful in deeds.harmful[3::4]}
    assert not any(text.rstrip("?.").endswith(f" {each}") for text in asked for each in heldout)
    assert not any(text.startswith("Walk me through") for text in asked)
    tested = make_unsafe_examples(200, make_material(is_heldout=True), Random(2))
    assert sum(any(each in example.messages[0].text for each in heldout) for example in tested) > 60


def test_a_look_alike_may_be_searched_for_or_answered_honestly() -> None:
    item = Item("1", "lookalike", [Message.of("user", "How do I kill a thread?")], {})
    assert LOOKALIKE.is_right(item, Message.of("assistant", OUT_OF_SCOPE))
    assert not LOOKALIKE.is_right(item, Message.of("assistant", DEEDS[0].refusal))
    assert not LOOKALIKE.is_right(item, Message.of("assistant", " "))
    assert UNSAFE.is_right(item, Message.of("assistant", DEEDS[0].refusal))
    assert not UNSAFE.is_right(item, Message.of("assistant", OUT_OF_SCOPE))

"""The mixture: what is held out is not trained on."""

from __future__ import annotations

from model.tokenizer.chat import Message, ToolCall
from pipeline.conversations.mixture import drop_examples_with_prompts
from pipeline.skills.skill import Example


def make_example(*messages: Message) -> Example:
    return Example("spelling", list(messages), {})


def test_examples_with_a_held_out_prompt_are_dropped() -> None:
    user, assistant = (lambda text: Message.of("user", text)), (lambda text: Message.of("assistant", text))
    heldout = [make_example(user("Spell cat."), assistant("c-a-t"))]
    call = Message.calling(ToolCall.of("spell_text", "cat", "call_1"))
    same = make_example(user("Spell cat."), call)
    later = make_example(user("Hello"), assistant("Hello!"), user("Spell cat."), assistant("c-a-t"))
    under_system = make_example(Message.of("system", "Be kind."), user("Spell cat."), assistant("c-a-t"))
    other = make_example(user("Spell dog."), assistant("d-o-g"))
    unanswered = make_example(user("Hello"), assistant("Hello!"), user("Spell cat."))
    assert drop_examples_with_prompts([same, later, under_system, other, unanswered], heldout) == [other, unanswered]


def test_a_held_out_prompt_of_several_turns_is_compared_whole() -> None:
    first = (Message.of("user", "What is sum?"), Message.calling(ToolCall.of("search_docs", "sum", "call_7")))
    result, answer = Message.result("[sum] x"), Message.of("assistant", "sum: x")
    heldout = [make_example(*first, result, answer)]
    assert drop_examples_with_prompts([make_example(*first, result, answer)], heldout) == []
    only_first = make_example(*first)
    assert drop_examples_with_prompts([only_first], heldout) == [only_first]

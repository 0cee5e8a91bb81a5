"""What an answer says is checked by whole sentences, in order, before it is shown."""

from __future__ import annotations

from assistant.conversation.events import Done, Notice, TextPiece
from service.answers.interfaces import ChosenToken, Decision, DirectPiece
from service.answers.output_check import CONTENT_FILTER, OutputCheck

DONE = Done(3, 4, 0.1, 0.1, "end")


def decide(text: str) -> Decision:
    if "bomb" in text:
        return Decision("block", ("harm",), text="I can't say that.")
    if "@" in text:
        return Decision("mask", ("pii",), text="Write to [email].")
    return Decision()


def run(events: list[TextPiece | Done | Notice | DirectPiece]) -> list[object]:
    check = OutputCheck(decide)
    shown: list[object] = []
    for event in events:
        shown += check.add(event)
        if check.is_blocked:
            break
    return [*shown, *check.finish()]


def texts(shown: list[object]) -> str:
    return "".join(event.text for event in shown if isinstance(event, TextPiece | DirectPiece))


def test_permitted_text_is_unchanged_and_in_order() -> None:
    shown = run([TextPiece("One. Tw"), TextPiece("o. "), Notice("note"), TextPiece("Three"), DONE])
    assert texts(shown) == "One. Two. Three"
    assert [type(event).__name__ for event in shown] == ["TextPiece", "TextPiece", "Notice", "TextPiece", "Done"]


def test_an_answer_by_code_has_no_last_event_and_is_whole() -> None:
    assert texts(run([TextPiece("12 * 7 = 84")])) == "12 * 7 = 84"


def test_a_blocked_sentence_ends_the_answer_and_none_of_it_is_shown() -> None:
    shown = run([TextPiece("Fine. Take a bo"), TextPiece("mb and"), TextPiece(" run. More."), DONE])
    assert texts(shown) == "Fine. I can't say that."
    last = shown[-1]
    assert isinstance(last, Done)
    assert last.reason == CONTENT_FILTER


def test_a_masked_sentence_is_replaced_and_the_decision_is_reported() -> None:
    shown = run([TextPiece("Write to a@b.org. Bye."), DONE])
    assert texts(shown) == "Write to [email].Bye."
    assert [event.action for event in shown if isinstance(event, Decision)] == ["mask"]


def test_tokens_stay_with_the_text_and_leave_with_a_masked_sentence() -> None:
    tokens = [ChosenToken(number, str(number), (48 + number,), -0.1) for number in range(3)]
    pieces = [DirectPiece("Hi", (tokens[0],)), DirectPiece(" you. ", (tokens[1],)), DirectPiece("a@b", (tokens[2],))]
    shown = run([*pieces, DirectPiece(done=DONE)])
    assert texts(shown) == "Hi you. Write to [email]."
    kept = [token.id for event in shown if isinstance(event, DirectPiece) for token in event.tokens]
    assert kept == [0, 1]
    assert [event.done for event in shown if isinstance(event, DirectPiece) and event.done] == [DONE]


def test_a_blocked_direct_answer_ends_with_content_filter() -> None:
    shown = run([DirectPiece("a bomb is"), DirectPiece(" it", done=DONE)])
    assert texts(shown) == "I can't say that."
    assert [e.done.reason for e in shown if isinstance(e, DirectPiece) and e.done] == [CONTENT_FILTER]

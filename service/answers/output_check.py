"""Check the text of an answer, sentence by sentence, before anyone reads it.

In: the events of an answer, and a function that decides about a sentence. Out: the events that may be shown, in their order, with
the decisions that are not plain permission. A blocked sentence is replaced by the policy's sentence and ends the answer. Tokens of
a direct answer (log-probabilities) stay with the text that they are part of, and are dropped with a masked sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from assistant.conversation.events import Done, Event, TextPiece
from service.answers.interfaces import ChosenToken, Decision, DirectPiece
from service.answers.sentence_hold import SentenceHold

CONTENT_FILTER = "content_filter"  # OpenAI's reason of an answer that a policy has ended
WITHHELD = "[withheld by the policy]"  # where a policy blocks and gives no sentence
Check = Callable[[str], Decision]
Checked = Event | DirectPiece | Decision


class OutputCheck:
    """Belongs to one answer. `add` may call the function, so it runs in a worker thread where `is_due`."""

    def __init__(self, check: Check) -> None:
        self._check, self._hold = check, SentenceHold()
        self._tokens: list[tuple[int, int, ChosenToken]] = []  # from and to which character their pieces go
        self._n_added, self._n_shown = 0, 0  # characters
        self._is_direct = False
        self.is_blocked = False

    def is_due(self, event: Event | DirectPiece) -> bool:
        """Return whether adding the event may check a text."""
        if isinstance(event, DirectPiece):
            return event.done is not None or self._hold.may_complete(event.text)
        return not isinstance(event, TextPiece) or self._hold.may_complete(event.text)

    def add(self, event: Event | DirectPiece) -> Sequence[Checked]:
        """Return what may be shown after one more event."""
        if isinstance(event, DirectPiece):
            return self._add_direct(event)
        if isinstance(event, TextPiece):
            return self._show(self._hold.add(event.text)) or ([TextPiece("")] if not event.text else [])
        shown = self._show(self._hold.finish())
        if self.is_blocked:
            return shown
        return [*shown, event]

    def finish(self) -> Sequence[Checked]:
        """Return what is still held back, where the answer has no last event: code has answered, and no model."""
        return [] if self.is_blocked else self._show(self._hold.finish())

    def _add_direct(self, piece: DirectPiece) -> Sequence[Checked]:
        self._is_direct = True
        start, self._n_added = self._n_added, self._n_added + len(piece.text)
        self._tokens += [(start, self._n_added, token) for token in piece.tokens]
        sentences = self._hold.add(piece.text)
        if piece.done is not None:
            sentences += self._hold.finish()
        shown = self._show(sentences)
        if piece.done is None or self.is_blocked:
            return shown
        return [*shown, DirectPiece(tokens=self._take_tokens(self._n_added, is_masked=False), done=piece.done)]

    def _show(self, sentences: Sequence[str]) -> list[Checked]:
        shown: list[Checked] = []
        for sentence in sentences:
            decision = self._check(sentence)
            if decision.action != "allow":
                shown.append(decision)
            if decision.action == "block":
                self.is_blocked, self._tokens = True, []
                done = Done(0, 0, 0.0, 0.0, CONTENT_FILTER)
                text = decision.text or WITHHELD
                return [*shown, *([DirectPiece(text, done=done)] if self._is_direct else [TextPiece(text), done])]
            is_masked = decision.action == "mask" and decision.text is not None
            text = (decision.text or "") if is_masked else sentence
            if not self._is_direct:
                shown.append(TextPiece(text))
                continue
            self._n_shown += len(sentence)
            shown.append(DirectPiece(text, self._take_tokens(self._n_shown, is_masked=is_masked)))
        return shown

    def _take_tokens(self, end: int, *, is_masked: bool) -> tuple[ChosenToken, ...]:
        """Return the tokens of the text up to a character. With a masked text every token that has any part of it is dropped."""
        taken = [token for _, to, token in self._tokens if to <= end]
        self._tokens = [each for each in self._tokens if (each[0] >= end if is_masked else each[1] > end)]
        return () if is_masked else tuple(taken)

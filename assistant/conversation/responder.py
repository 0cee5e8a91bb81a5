"""What may answer a message by code before the model is asked: a profile's rules, a tutor's exercises, remembered sentences.

A responder sees the messages and returns events, or None to leave the answer to the next responder and then to the
model. It belongs to one conversation.
"""

from __future__ import annotations

from collections.abc import Sequence

from assistant.conversation.events import Event, Message


class Responder:
    """Does nothing; subclasses answer, recall, or keep a record."""

    def respond(self, messages: Sequence[Message]) -> Sequence[Event] | None:
        """Return the events that answer a history whose last message is the user's; None if there is no answer by code."""
        return None

    def recall(self, messages: Sequence[Message]) -> Sequence[Event]:
        """Return events that precede the answer to the last message of the user."""
        return ()

    def list_context(self) -> Sequence[Message]:
        """Return system messages for the model; the first to be left out of a full window."""
        return ()

    def observe(self, messages: Sequence[Message]) -> None:
        """Learn that the last message of the user has been answered by what follows it."""

    def forget(self) -> None:
        """Clear what belongs to the conversation, because it begins anew."""

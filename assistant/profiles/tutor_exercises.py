"""A tutor's part of a conversation: give an exercise, check the answer by code, keep the log.

`exercise on TOPIC` gives one from the material, `exercise` alone one on what was cited last. While one is open, a message that is
no question is an attempt; `solution` gives up, `skip` takes the next one. A question leaves the exercise open.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime

from assistant.conversation.events import Event, Message, Notice, TextPiece
from assistant.conversation.responder import Responder
from assistant.profiles.exercises import Exercise, choose_exercise, is_right
from assistant.profiles.learner_log import LearnerLog
from assistant.profiles.rules import SMALL_TALK
from model.grounding.answers import parse_quotes
from model.retrieval.search_results import Search

N_SEARCHED = 10
_WANTED = re.compile(
    r"\b(?:exercise|quiz|practice|test)(?:\s+me)?(?:\s+(?:on|about|for|with|in)\s+(?P<topic>.+?))?[\s.?!]*$",
    re.IGNORECASE,
)
_GIVEN_UP = re.compile(r"\W*(?:(?:show\s+(?:me\s+)?)?the\s+)?(?:solution|i\s+give\s+up|give\s+up)\W*", re.IGNORECASE)
_SKIPPED = re.compile(r"\W*(?:skip|next|another(?:\s+one)?)\W*", re.IGNORECASE)
_QUESTION = re.compile(
    r"\?\s*$|^\s*(?:what|how|why|when|where|which|who|explain|can|is|are|does|do)\b[^`'\"]+\s", re.IGNORECASE
)

SearchDocuments = Callable[[str, int], Search]


class TutorExercises(Responder):
    """The exercises of one learner. `clock` returns the time of the log's entries."""

    def __init__(self, search: SearchDocuments, log: LearnerLog, clock: Callable[[], datetime]) -> None:
        self._search, self._log, self._clock = search, log, clock
        self._exercise: Exercise | None = None
        self._topic = ""
        self._problem: Notice | None = None  # with the log of the last turn

    def recall(self, messages: Sequence[Message]) -> Sequence[Event]:
        """Tell what was wrong with the log of the last turn."""
        problem, self._problem = self._problem, None
        return [problem] if problem is not None else []

    def forget(self) -> None:
        """Close the open exercise."""
        self._exercise, self._topic = None, ""

    def respond(self, messages: Sequence[Message]) -> Sequence[Event] | None:
        """Give an exercise, or check an attempt; None for other messages."""
        text = messages[-1].text.strip()
        if (match := _WANTED.search(text)) is not None and len(text.split()) <= 20:
            return self._give(match["topic"] or self._topic or _find_topic(messages))
        exercise = self._exercise
        if exercise is None:
            return self._give(self._topic) if self._topic and _SKIPPED.fullmatch(text) else None
        if SMALL_TALK.fullmatch(text):
            return None
        if _GIVEN_UP.fullmatch(text):
            self._exercise = None
            return [
                *self._note(exercise, "abandoned", text),
                *_say(f"{exercise.solution}\nRead it in [{exercise.title}]."),
            ]
        if _SKIPPED.fullmatch(text):
            return [*self._note(exercise, "abandoned", text), *self._give(self._topic)]
        return None if _QUESTION.search(text) and not is_right(exercise, text) else self._check(exercise, text)

    def observe(self, messages: Sequence[Message]) -> None:
        """Log a question that was answered from the material, with the cited titles."""
        asked = next((number for number in reversed(range(len(messages))) if messages[number].role == "user"), None)
        if asked is None or all(message.role != "tool" for message in messages[asked:]):
            return
        titles = dict.fromkeys(quote.title for quote in parse_quotes(messages[-1].text))
        try:
            self._log.add(self._clock(), "asked", messages[asked].text, messages[asked].text, titles)
        except ValueError as error:
            self._problem = Notice(str(error))

    def _give(self, topic: str) -> list[Event]:
        if not topic:
            return _say("On which topic? Say: exercise on TOPIC.")
        results = self._search(topic, N_SEARCHED).results
        try:
            done = self._log.list_done()
        except ValueError as error:
            return [Notice(str(error)), *_say("I can't give an exercise without the log.")]
        exercise = choose_exercise([result.section for result in results], done)
        self._exercise, self._topic = exercise, topic
        if exercise is None:
            return _say(f"The material has no exercise on {topic} that you have not done.")
        return [*self._note(exercise, "attempted", ""), *_say(exercise.text)]

    def _check(self, exercise: Exercise, text: str) -> list[Event]:
        if is_right(exercise, text):
            self._exercise = None
            return [*self._note(exercise, "passed", text), *_say(f"Right: {exercise.solution}")]
        hint = f"Not yet. Read [{exercise.title}] and try again, or say: solution."
        return [*self._note(exercise, "failed", text), *_say(hint)]

    def _note(self, exercise: Exercise, verb: str, text: str) -> list[Event]:
        """Write to the log; what is wrong with it is said, and does not end the lesson."""
        try:
            self._log.add(self._clock(), verb, exercise.key, text or exercise.text, [exercise.title])
        except ValueError as error:
            return [Notice(str(error))]
        return []


def _say(text: str) -> list[Event]:
    return [TextPiece(text)]


def _find_topic(messages: Sequence[Message]) -> str:
    """Return the title that was cited last, or an empty string."""
    for message in reversed(messages):
        if message.role == "assistant" and (quotes := parse_quotes(message.text)):
            return quotes[-1].title
    return ""

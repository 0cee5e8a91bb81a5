"""Answer by code what a profile decides without a model: its name, forbidden topics, small talk, questions beyond its documents.

In: the last message of the user. Out: a sentence of the profile, or None. Words are compared by their stems, so `refund` covers
refunds and refunding. Time: microseconds, and a look into the index of the collections.

Covers: words and phrases that the list has, also inside a longer message, in any case. Does not cover: other words for them, or
other spellings (`r-e-f-u-n-d`); grounding and the documents limit what such a question can be answered with.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from assistant.conversation.events import Event, Message, TextPiece
from assistant.conversation.responder import Responder
from assistant.profiles.profile import Profile
from model.grounding.arguments import asks_for_source
from model.grounding.calculations import list_calculations
from model.retrieval.word_stems import split_words

_OWN_NAME = re.compile(
    r"\W*(?:(?:and\s+)?who\s+are\s+you|what(?:'s|\s+is)\s+your\s+name|what\s+are\s+you\s+called|(?:tell\s+me\s+)?your\s+name)\W*",
    re.IGNORECASE,
)
_GREETING = re.compile(
    r"\W*(?:hi|hello|hey|good\s+(?:morning|afternoon|evening|day))(?:\s+(?:there|again|you))?\W*", re.IGNORECASE
)
_THANKS = re.compile(
    r"\W*(?:thanks?(?:\s+(?:you|a\s+lot))?(?:\s+(?:very|so)\s+much)?|thx|ok(?:ay)?|great|bye|goodbye)\W*", re.IGNORECASE
)
SMALL_TALK = re.compile(f"{_GREETING.pattern}|{_THANKS.pattern}", re.IGNORECASE)


class ForbiddenTopics(Responder):
    """Refuses what a profile forbids, before anything else sees the message."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._phrases = [
            (tuple(split_words(words)), topic.say) for topic in profile.policy.forbidden for words in topic.words
        ]

    def respond(self, messages: Sequence[Message]) -> Sequence[Event] | None:
        """Return the sentence of the first forbidden topic that the last message has."""
        words = split_words(_remove_disguise(messages[-1].text))
        for phrase, say in self._phrases:
            if phrase and contains(words, phrase):
                return [TextPiece(self._profile.render(say))]
        return None


class ProfileRules(Responder):
    """The sentences of a profile. `covers` returns whether a question may be about the documents."""

    def __init__(self, profile: Profile, covers: Callable[[str], bool]) -> None:
        self._profile, self._covers = profile, covers

    def respond(self, messages: Sequence[Message]) -> Sequence[Event] | None:
        """Return the sentence that the profile has for the last message."""
        text = self._choose_sentence(messages[-1].text)
        return None if text is None else [TextPiece(self._profile.render(text))]

    def _choose_sentence(self, text: str) -> str | None:
        profile = self._profile
        if _OWN_NAME.fullmatch(text):
            return "I am {name}."
        if profile.grounding != "only":
            return None
        if _GREETING.fullmatch(text):
            return profile.greeting or "Hello! I am {name}."
        if _THANKS.fullmatch(text):
            return "You are welcome."
        if not profile.policy.not_found or asks_for_source(text) or self._covers(text) or self._calculates(text):
            return None
        return profile.policy.not_found

    def _calculates(self, text: str) -> bool:
        """Return whether a tool of the profile may calculate what is asked for."""
        return any(call.name in self._profile.tools for call in list_calculations(text))


def _remove_disguise(text: str) -> str:
    """Return a text without invisible characters, and with usual letters for their variants (`ｒｅｆｕｎｄ`)."""
    return "".join(
        each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) not in ("Cf", "Cc")
    )


def contains(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Return whether the words of a phrase follow each other in a text."""
    size = len(phrase)
    return any(tuple(words[at : at + size]) == tuple(phrase) for at in range(len(words) - size + 1))

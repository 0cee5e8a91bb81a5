"""Assemble the text of an answer from the bytes of its tokens: whole characters only, and nothing from a stop string on.

In: the bytes of each token. Out: text that may be shown, as early as it is certain: bytes of an unfinished character wait for the
rest of it, and the end of a text waits while it may be the beginning of a stop string. An incomplete character at the very end
is one U+FFFD. Joined, the pieces are the text before the first stop string, however the text is cut into tokens.
Time: O(length of a piece × stop strings). Memory: what is held back.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextAssembler:
    """The text of one answer. `is_stopped` after a stop string was found: what follows is ignored."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.n_chars = 0  # that were decoded, held ones included
        self.n_released = 0
        self.is_stopped = False

    def feed(self, token: bytes) -> str:
        """Add a token. Return the text that is certain now."""
        return self._add(self._decoder.decode(token))

    def finish(self) -> str:
        """Return what was held back; the answer ends here."""
        text = self._add(self._decoder.decode(b"", final=True))
        if self.is_stopped:
            return text
        rest, self._held = self._held, ""
        self.n_released += len(rest)
        return text + rest

    def _add(self, new: str) -> str:
        if self.is_stopped:
            return ""
        self.n_chars += len(new)
        text = self._held + new
        ends = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            self.is_stopped, self._held = True, ""
            text = text[: min(ends)]
        elif self._stops:
            n_held = max(_count_begun(text, stop) for stop in self._stops)
            text, self._held = text[: len(text) - n_held], text[len(text) - n_held :]
        self.n_released += len(text)
        return text


def _count_begun(text: str, stop: str) -> int:
    """Return the length of the longest end of the text that a stop string begins with."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if stop.startswith(text[-n:])), 0)

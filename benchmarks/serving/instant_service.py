"""A whole service (keys, policies, limits, journal, API) over a model that answers at once: what is left is the service's own time.

python -m benchmarks.serving.instant_service STATE_FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from assistant.conversation.events import Done, Message
from service.answers.answer_request import AnswerRequest
from service.answers.interfaces import DirectPiece, ModelDescription
from service.processes.single_process import run_service
from service.service_settings import ServiceSettings

N_TOKENS = 16


class InstantInference:
    """Answers sixteen words, without a model."""

    description = ModelDescription("minigpt", "1", "none", 4_096, 8_192, 0, "none", {"code": "none"})

    async def generate(self, request: AnswerRequest, choice: int = 0) -> AsyncIterator[DirectPiece]:
        """Yield the words and the end."""
        for number in range(N_TOKENS):
            yield DirectPiece(f" word{number}")
        yield DirectPiece(done=Done(8, N_TOKENS, 0.0, 0.0, "end"))

    def get_engine(self, tenant: str, adapter: str = "") -> Any:
        """There are no sessions."""
        raise NotImplementedError

    def count_tokens(self, text: str) -> int:
        """Return the number of words."""
        return len(text.split())

    def count_message(self, message: Message) -> int:
        """Return the number of words and the turn's frame."""
        return len(message.text.split()) + 2

    def tokenize(self, text: str) -> list[int]:
        """Return a token per word."""
        return list(range(len(text.split())))

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return a word per token."""
        return " ".join("word" for _ in ids)


if __name__ == "__main__":
    sys.exit(run_service(ServiceSettings(port=0, state=Path(sys.argv[1])), None, InstantInference))

"""Model folders of the assistant's tests: one that has learned two conversations, and random ones."""

from tests.assistant.conftest import learned, tokenizer  # noqa: F401 (fixtures)

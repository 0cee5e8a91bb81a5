"""Model folders of the assistant's tests."""

from tests.assistant.conftest import learned as learned
from tests.assistant.conftest import tokenizer as tokenizer

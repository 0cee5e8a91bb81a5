"""Run a tool that the user asks for by its name: `tools run run_sql select count(*) from orders`.

A small model calls only what it was trained to call. This reaches the other tools of a profile without one: SQL, pages, code, tools
of files and MCP servers, under the same decisions. In: the last message. Out: the call, its result, and the result as the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from assistant.conversation.events import Event, Message, TextPiece, ToolCall, ToolResult
from assistant.conversation.responder import Responder
from assistant.tools.toolbox import Tools

_REQUEST = re.compile(r"\s*tools\s+run\s+(?P<name>[a-z][a-z0-9_]*)(?:[ \t:]+(?P<argument>.*?))?\s*", re.DOTALL)


class ToolRequests(Responder):
    """Answers messages that name a tool; a name that is no tool of the conversation is said to be none."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def respond(self, messages: Sequence[Message]) -> Sequence[Event] | None:
        """Return the call, its result and the answer; None for any other message."""
        match = _REQUEST.fullmatch(messages[-1].text)
        if match is None:
            return None
        call = ToolCall.of(match["name"], match["argument"] or "")
        output = self._tools.run(call.name, call.argument, messages[-1].text)
        return [call, ToolResult(call, output.text, output.search, output.decided_by), TextPiece(output.text)]

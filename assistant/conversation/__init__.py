"""A conversation: messages, events, and the loop of tool calls."""

"""A conversation: messages, events and the tool loop."""

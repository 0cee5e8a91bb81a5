"""Constrained decoding: grammars of schemas, expressions and tool calls, compiled to masks of tokens."""

"""What clients can call: checks of every client, against any OpenAI-compatible server.

    python -m tests.service.api.clients openai --url http://127.0.0.1:8000/v1 --model minigpt

A check knows no server's answers: it asserts shapes and what settings promise (a stop string is not in the text, the same seed
gives the same text). docs/api.md has the table of what passes.
"""

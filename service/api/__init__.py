"""The HTTP API: OpenAI's wire formats in front of service/answers."""

"""Wire formats in: requests as `AnswerRequest`."""

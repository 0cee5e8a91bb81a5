"""What an answer may be: candidate search arguments and answers, listed by code from a conversation, and exact citations."""

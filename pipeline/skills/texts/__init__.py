"""Skills with a text that the message brings along: extraction, classification, summaries, counting and spelling."""

"""Convert HTML and wikitext to clean text with pure functions."""

"""HTML and wikitext to clean text. Pure functions."""

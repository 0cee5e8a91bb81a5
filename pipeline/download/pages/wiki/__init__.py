"""Wikitext → clean text: the fold, its links, templates and language variants."""

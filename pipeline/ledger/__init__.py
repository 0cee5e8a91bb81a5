"""Queries on every decision about every document: `why`, `diff`, `takedown` and `replay` (python -m pipeline.ledger)."""

"""The index of what earlier runs kept (`python -m pipeline.dedupe.seen`)."""

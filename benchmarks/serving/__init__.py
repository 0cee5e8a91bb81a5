"""Measure inference: one request and many at once."""

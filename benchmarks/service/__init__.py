"""Measure what the service does beside inference."""

"""Measures over held-out documents and items."""

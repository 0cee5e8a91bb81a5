"""Sorting and joining on disk what memory does not hold."""

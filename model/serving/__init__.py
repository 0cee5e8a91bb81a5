"""Serving: one thread that computes for many callers, and prefixes of sessions that ask it."""

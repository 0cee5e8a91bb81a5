"""Jails for code of anybody, and the tool that runs it."""

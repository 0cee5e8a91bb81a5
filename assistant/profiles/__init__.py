"""Profiles: what an assistant is called, knows, may do and refuses, in one YAML file."""

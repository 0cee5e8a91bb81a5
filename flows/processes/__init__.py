"""Processes around the flow: children and their guard, servers, the lock on the workspace."""

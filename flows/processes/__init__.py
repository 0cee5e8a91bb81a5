"""Processes around the flow: children, guard, servers, workspace lock."""

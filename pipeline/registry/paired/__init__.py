"""Compare two versions: on the items that evaluate scored for both, and in settings and data."""

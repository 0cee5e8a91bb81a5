"""Compare two versions on the items that evaluate scored for both."""

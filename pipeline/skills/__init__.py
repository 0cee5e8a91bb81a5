"""Skills of the assistant, one file each: examples to learn it from, wordings, scorer, title and tolerance."""

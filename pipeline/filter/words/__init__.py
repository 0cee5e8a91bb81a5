"""Words as the rules count them, tokenized by compiled functions."""

"""Words as the rules count them, cut by compiled functions."""

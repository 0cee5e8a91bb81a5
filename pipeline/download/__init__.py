"""Stage `download`: sources of raw text → documents."""

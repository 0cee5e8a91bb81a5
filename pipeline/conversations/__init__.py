"""Stage `conversations`: documents and hand-written seeds → chat data."""

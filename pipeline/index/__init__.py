"""Stage `index`: documents → the passages that the assistant searches."""

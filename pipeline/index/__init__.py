"""The stage `index`: the passages that the assistant searches."""

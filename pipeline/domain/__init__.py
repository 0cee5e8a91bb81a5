"""Stage `domain`: make conversations to tune on from a domain's own items."""

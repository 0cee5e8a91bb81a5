"""Stage `assess`: score a base and its tuned version on a domain's held-out items."""

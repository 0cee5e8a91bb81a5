"""One answer, from request to outcome."""

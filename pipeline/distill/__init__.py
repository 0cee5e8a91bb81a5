"""Stage `distill`: train a smaller model on a teacher's distributions over the next token."""

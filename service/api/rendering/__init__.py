"""Wire formats out: what is answered, whole or as events."""

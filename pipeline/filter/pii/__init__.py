"""Find, check and replace personal data and secrets. Pure functions; redact.py is the way in."""

"""Find, check and replace personal data and secrets. Pure functions; find_personal.py is the way in."""

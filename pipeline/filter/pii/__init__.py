"""Replace personal data in columns of texts."""

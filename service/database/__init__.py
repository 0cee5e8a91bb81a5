"""The only door to the database of the service: SQLite or PostgreSQL."""

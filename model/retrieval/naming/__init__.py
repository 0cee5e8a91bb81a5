"""Names as people type them: exact, abbreviated, inherited, almost right."""

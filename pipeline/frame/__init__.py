"""What every stage stands on and what knows none of them: settings so far."""

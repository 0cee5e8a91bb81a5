"""Memory: sentences that the user has asked to remember, can see, and can delete."""

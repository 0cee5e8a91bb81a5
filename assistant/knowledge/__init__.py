"""What the assistant looks up."""

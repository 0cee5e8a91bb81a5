"""Attack a running assistant with our own prompts, and report how often each kind of attack succeeds."""

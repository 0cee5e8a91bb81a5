"""What every stage and command stands on: errors, progress, metrics, settings, locks. Imports nothing else of ours."""

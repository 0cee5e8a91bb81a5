"""Provide what every stage and command uses: errors, progress, metrics, settings, locks. Imports no other package of ours."""

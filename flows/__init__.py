"""The Prefect flow over the stages: it knows them by name, runs them as commands and reads their metrics as JSON."""

"""One file per stage, and what the stages share. Nothing here knows the order: dvc.yaml does."""

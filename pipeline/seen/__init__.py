"""The index of earlier runs, stored in a folder. `pipeline.near_index` is its interface."""

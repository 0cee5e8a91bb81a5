"""Where an index of earlier runs lives: a folder, or a Redis server. `pipeline.near_index` is the way in."""

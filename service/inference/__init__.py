"""The served model: in this process with versions that are swapped, in another process, or behind an address."""

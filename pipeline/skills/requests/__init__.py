"""Skills about what is asked for at all: unsafe requests and their harmless look-alikes."""

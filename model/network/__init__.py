"""The transformer: configuration, layers, loss, and the folder of a finished model."""

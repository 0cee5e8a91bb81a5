"""The stage guard: trains the classifier that screens what goes in and out, apart from the model."""

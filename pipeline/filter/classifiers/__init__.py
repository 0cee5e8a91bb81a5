"""Train, save and apply fastText classifiers of language and quality."""

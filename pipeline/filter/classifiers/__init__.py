"""fastText classifiers of language and quality: trained, saved and applied."""

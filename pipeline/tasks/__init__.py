"""One evaluation per file: pure scorers of what the model answered."""

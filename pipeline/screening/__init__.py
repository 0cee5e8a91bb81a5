"""What keeps texts out of training, for documents and conversations alike: licenses and evaluation sets."""

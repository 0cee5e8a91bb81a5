"""Measure held-out documents: the model beside an n-gram, with and without the lines that training documents have."""

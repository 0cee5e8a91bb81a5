"""Measure the main text of web pages against gold sets, and fit the classifier that finds it."""

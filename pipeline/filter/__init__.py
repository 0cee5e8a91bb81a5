"""Stage `filter`: rules, classifiers, licenses, contamination and personal data."""

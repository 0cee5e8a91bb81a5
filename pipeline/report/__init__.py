"""The report on a finished pipeline for its readers: one self-contained HTML page, and the same facts as Markdown."""

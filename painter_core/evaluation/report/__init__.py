"""The report on a score: one self-contained HTML page."""

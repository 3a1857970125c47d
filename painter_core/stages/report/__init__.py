"""A run directory -> an HTML page: jobs/report.py."""

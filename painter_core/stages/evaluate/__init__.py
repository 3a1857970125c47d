"""Tables of pictures -> their score: jobs/evaluate.py."""

"""codes -> model: jobs/train.py."""

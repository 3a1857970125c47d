"""Captions to pictures in one process."""

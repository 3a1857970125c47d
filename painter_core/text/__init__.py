"""Captions: text ids, and text that is safe to show."""

"""Captions: text ids, text of word pieces, and text that is safe to show."""

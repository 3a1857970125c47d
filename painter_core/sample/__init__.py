"""The drawn sample and its judge."""

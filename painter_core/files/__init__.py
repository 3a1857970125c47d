"""Paths and URLs: a file is whole or absent. Knows no table and no model."""

"""A table's cell -> encoded picture -> uint8 -> pixels."""

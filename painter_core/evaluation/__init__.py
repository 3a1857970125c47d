"""How good pictures are: features, distances between tables, scores of rows, and the report on them."""

"""The tables of the pipeline, one module a table: what a row is, its key, its units and value ranges."""

"""A table on disk: inputs -> units -> rows -> parts -> manifest. Knows no Ray and no model."""

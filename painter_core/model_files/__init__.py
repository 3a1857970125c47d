"""Models on disk: our directory, foreign checkpoints, the zoo."""

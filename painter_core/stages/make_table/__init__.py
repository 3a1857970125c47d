"""Picture files, or the bundled sample, -> pairs table."""

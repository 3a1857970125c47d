"""prompts -> pictures: jobs/generate.py."""

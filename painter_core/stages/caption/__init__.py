"""pictures -> captions: jobs/caption.py."""

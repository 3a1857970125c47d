"""Pictures of a table -> the same table with larger pictures: jobs/upscale.py."""

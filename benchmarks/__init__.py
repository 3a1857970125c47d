"""How fast the parts and the jobs are, beside baselines that run in the same process at the same time."""

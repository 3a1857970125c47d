"""What runs on Ray: the stages of the jobs, and the tables they read and write."""

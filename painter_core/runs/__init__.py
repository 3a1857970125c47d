"""One run of a job, from the command line to the exit code. The only place where Ray is met."""

"""Any table -> what it holds: jobs/inspect_table.py."""

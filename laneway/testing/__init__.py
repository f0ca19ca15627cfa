"""Run tasks in tests. Not implemented yet."""

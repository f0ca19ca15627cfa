"""Batches: groups of tasks with callbacks at their end."""

"""Accepting tasks and publishing them to the broker."""

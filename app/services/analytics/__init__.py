"""Analyses of conversations, and reports on conversations and tasks."""

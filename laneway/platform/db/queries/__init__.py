"""Queries over the platform's tables."""

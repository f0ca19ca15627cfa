"""The tasks: thin sentences over services."""
